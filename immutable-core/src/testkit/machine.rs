//! One simulated instance: what happened to it, and what its life is because of that.

use std::time::Duration;

use jiff::Timestamp;

use super::faults::Fate;
use super::{Behaviour, SimOptions};
use crate::model::{Endpoint, Fingerprint, FleetId, InstanceId, Lifecycle, ReleaseId, RolloutId, ServiceName};

/// What happened to an instance. Moments are counted from the start of the simulation.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) service: ServiceName,
    pub(super) fleet: FleetId,
    pub(super) release: ReleaseId,
    pub(super) rollout: RolloutId,
    pub(super) image: Fingerprint,
    pub(super) endpoint: Endpoint,
    pub(super) started: Duration,
    pub(super) killed: Option<Duration>,
    pub(super) ended: Option<Duration>,
    pub(super) ill: bool,
    /// Whether a look at it was ever good.
    pub(super) seen_good: bool,
    pub(super) fate: Fate,
}

/// The moments of an instance's life, past and future.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    running: Option<Duration>,
    ready: Option<Duration>,
    unwell: Option<Duration>,
    falters: Option<(Duration, Duration)>,
    dead: Option<Duration>,
    ended: Option<Duration>,
    gone: Option<Duration>,
}

impl Life {
    pub(super) fn of(machine: &Machine, behaviour: Behaviour, options: &SimOptions) -> Self {
        let running = match behaviour {
            Behaviour::NeverBoots => None,
            _ if machine.fate.never_boots => None,
            _ => Some(machine.started.saturating_add(options.boot + machine.fate.boot_longer)),
        };
        let after = |delay: Duration| running.map(|running| running.saturating_add(delay));
        let dies = match behaviour {
            Behaviour::DiesAfter(delay) => after(delay),
            _ => None,
        };
        let unwell = match behaviour {
            _ if machine.ill => Some(Duration::ZERO),
            Behaviour::NeverHealthy => Some(Duration::ZERO),
            Behaviour::UnhealthyAfter(delay) => after(delay),
            _ => None,
        };
        let dead = [machine.killed, dies, machine.fate.dies].into_iter().flatten().min();
        let gone = machine.ended.map(|ended| ended.saturating_add(options.end_after));
        Self {
            running,
            ready: after(options.ready_after),
            unwell,
            falters: machine.fate.falters,
            dead,
            ended: machine.ended,
            gone,
        }
    }

    /// Where the instance stands; `None` once it is gone.
    pub(super) fn lifecycle(&self, now: Duration) -> Option<Lifecycle> {
        let is_past = |moment: Option<Duration>| moment.is_some_and(|moment| moment <= now);
        if is_past(self.gone) {
            return None;
        }
        Some(match () {
            () if is_past(self.ended) => Lifecycle::Ending,
            () if is_past(self.dead) => Lifecycle::Dead,
            () if is_past(self.running) => Lifecycle::Running,
            () => Lifecycle::Starting,
        })
    }

    /// Why the instance does not answer as it should; `None` when it does.
    pub(super) fn complaint(&self, now: Duration) -> Option<&'static str> {
        let is_past = |moment: Option<Duration>| moment.is_some_and(|moment| moment <= now);
        match self.lifecycle(now) {
            None | Some(Lifecycle::Dead) => Some("connection timed out"),
            Some(Lifecycle::Starting | Lifecycle::Ending) => Some("connection refused"),
            Some(Lifecycle::Running) if is_past(self.unwell) => Some("answered 500"),
            Some(Lifecycle::Running) if self.falters.is_some_and(|(from, to)| from <= now && now < to) => {
                Some("no answer in time")
            }
            Some(Lifecycle::Running) if !is_past(self.ready) => Some("answered 503"),
            Some(Lifecycle::Running) => None,
        }
    }

    /// Since when the instance has answered as it should; `None` when it does not.
    pub(super) fn good_since(&self, now: Duration) -> Option<Duration> {
        let recovered = self.falters.map(|(_, to)| to).filter(|to| *to <= now);
        self.complaint(now).is_none().then(|| self.ready.max(recovered)).flatten()
    }

    /// When something about the instance changes by itself.
    pub(super) fn moments(self) -> impl Iterator<Item = Duration> {
        let (from, to) = self.falters.unzip();
        [self.running, self.ready, self.unwell, self.dead, self.gone, from, to].into_iter().flatten()
    }
}

/// One instance of the simulated cloud, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimInstance {
    /// Its name: `sim-1`, `sim-2`, and so on.
    pub id: InstanceId,
    /// Its service.
    pub service: ServiceName,
    /// Its fleet.
    pub fleet: FleetId,
    /// The release that it was started from.
    pub release: ReleaseId,
    /// The rollout that started it.
    pub rollout: RolloutId,
    /// The content that it runs.
    pub image: Fingerprint,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// Whether a probe finds it good.
    pub is_good: bool,
    /// Since when it has been good, if it is.
    pub good_since: Option<Timestamp>,
    /// Whether a probe ever found it good.
    pub was_seen_good: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let image = crate::model::Image {
            id: "i".parse().unwrap(),
            fingerprint: Fingerprint::of("i"),
            parents: vec![],
            labels: crate::model::ImageLabels {
                version: "1".into(),
                commit: None,
                built_at: jiff::Timestamp::UNIX_EPOCH,
            },
        };
        Machine {
            service: "web".parse().unwrap(),
            fleet: "web-1".parse().unwrap(),
            rollout: "r".parse().unwrap(),
            image: image.fingerprint,
            release: crate::model::Release::new(image, crate::model::LaunchSpec::default()).id(),
            endpoint: "sim-1:80".parse().unwrap(),
            started: Duration::from_secs(100),
            killed: None,
            ended: None,
            ill: false,
            seen_good: false,
            fate: Fate::default(),
        }
    }

    #[test]
    fn each_behaviour_has_its_life() {
        use Lifecycle::{Dead, Running, Starting};
        let seconds = Duration::from_secs;
        // From the default options: running from 130, ready from 135.
        let cases = [
            (Behaviour::Good, vec![(129, Starting, false), (130, Running, false), (135, Running, true)]),
            (Behaviour::Errors { per_mille: 5 }, vec![(999, Running, true)]),
            (Behaviour::NeverHealthy, vec![(130, Running, false), (999, Running, false)]),
            (Behaviour::NeverBoots, vec![(130, Starting, false), (999, Starting, false)]),
            (Behaviour::DiesAfter(seconds(60)), vec![(189, Running, true), (190, Dead, false)]),
            (Behaviour::UnhealthyAfter(seconds(60)), vec![(189, Running, true), (190, Running, false)]),
        ];
        for (behaviour, expected) in cases {
            let life = Life::of(&machine(), behaviour, &SimOptions::default());
            for (at, lifecycle, good) in expected {
                let now = seconds(at);
                assert_eq!(life.lifecycle(now), Some(lifecycle), "{behaviour:?} at {at}");
                assert_eq!(life.complaint(now).is_none(), good, "{behaviour:?} at {at}");
            }
        }
    }

    #[test]
    fn what_is_done_to_an_instance_comes_before_its_behaviour() {
        let (killed, ended) = (Some(Duration::from_secs(110)), Some(Duration::from_mins(2)));
        let machine = Machine { killed, ended, ..machine() };
        let life = Life::of(&machine, Behaviour::Good, &SimOptions::default());
        let at = |seconds| life.lifecycle(Duration::from_secs(seconds));
        assert_eq!(at(109), Some(Lifecycle::Starting));
        assert_eq!(at(110), Some(Lifecycle::Dead));
        assert_eq!(at(120), Some(Lifecycle::Ending));
        assert_eq!(at(130), None);
    }
}
