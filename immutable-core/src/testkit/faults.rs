//! What goes wrong in a simulated cloud, drawn from a seed.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use super::operation::Operation;
use super::state::State;

/// A window of time in which the cloud may be short of capacity.
const SHORTAGE: Duration = Duration::from_mins(10);

/// A window of time in which a zone may be lost.
const ZONE_WINDOW: Duration = Duration::from_hours(1);

/// How often a simulated cloud fails, and how.
///
/// Every probability is in thousandths. Whether a fault strikes depends on the seed, its kind, the operation and how many
/// calls of it (or instances, or windows of time) there were before, and on nothing else. So one [`Fault`] can be switched
/// [`off`](Self::off) while all others stay as they are: this is how a failing schedule is made short.
///
/// Not `#[non_exhaustive]`: tests write down what matters to them and take the rest from the default, in which nothing fails.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// What all draws begin with.
    pub seed: u64,
    /// Of a thousand calls, how many take up to [`slow_by`](Self::slow_by) longer.
    pub slow: u32,
    /// The most that a slow call takes longer; it is drawn anew for each half of the call.
    pub slow_by: Duration,
    /// Of a thousand calls, how many are refused as throttled, with a time to wait.
    pub throttled: u32,
    /// Of a thousand changing calls, how many are done, and answered with a timeout.
    pub lost: u32,
    /// Of a thousand changing calls, how many arrive twice, one just after the other.
    pub doubled: u32,
    /// Of a thousand changing calls, how many arrive up to [`late_by`](Self::late_by) late, whether or not the caller still waits.
    pub late: u32,
    /// The most by which a call arrives late: the cloud's ambiguity horizon.
    pub late_by: Duration,
    /// Of a thousand changes of several instances, how many are done in part and answered with "ask again".
    pub partial: u32,
    /// Of a thousand lists of fleets, how many tell an earlier state, as of then.
    pub lagging: u32,
    /// The most by which a list lags.
    pub lag_by: Duration,
    /// The most that a boot takes longer than the options say.
    pub boot_spread: Duration,
    /// Of a thousand instances, how many never boot.
    pub never_boots: u32,
    /// Of a thousand instances, how many stop by themselves within [`lifetime`](Self::lifetime).
    pub dies: u32,
    /// Of a thousand instances, how many answer badly for up to two minutes, once within [`lifetime`](Self::lifetime).
    pub falters: u32,
    /// Within what time of their start instances die or falter.
    pub lifetime: Duration,
    /// Of a thousand windows of ten minutes, in how many there is no capacity for new instances.
    pub shortage: u32,
    /// The most instances that may exist; `None`: no limit.
    pub quota: Option<usize>,
    /// Of a thousand windows of ten minutes, in how many others have used up the quota but for up to three instances.
    pub crowded: u32,
    /// How many zones there are; instances are started in them by turns. Zero is one zone that is never lost.
    pub zones: u32,
    /// Of a thousand hours of a zone, in how many it is lost: its instances die together, and it starts none for a while.
    pub zone_loss: u32,
    /// How far the times that the cloud tells are ahead of its callers' clock; behind, if negative.
    pub skew: SignedDuration,
    /// Faults that do not strike.
    pub off: BTreeSet<Fault>,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A call takes longer.
    Slow,
    /// A call is refused as throttled.
    Throttled,
    /// The answer of a change is lost.
    Lost,
    /// A change arrives twice.
    Doubled,
    /// A change arrives late.
    Late,
    /// A change is done in part.
    Partial,
    /// A list tells an earlier state.
    Lagging,
    /// An instance never boots.
    NeverBoots,
    /// An instance dies.
    Dies,
    /// An instance answers badly for a while.
    Falters,
    /// There is no capacity for a while.
    Shortage,
    /// There is hardly any quota left for a while.
    Crowded,
    /// A zone is lost.
    ZoneLoss,
}

/// One fault that struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// In which call; `None` for what happens to instances, zones and capacity.
    pub operation: Option<Operation>,
    /// In which call of this operation, instance, or window of time, counted from 0.
    pub nth: u64,
}

impl Faults {
    /// Faults for swarm testing: each kind is off with probability one half, and what is on has random knobs.
    ///
    /// Swarms find what a fixed mixture hides: with everything failing at once, hardly any rollout gets far.
    ///
    /// ```
    /// # use immutable_core::testkit::Faults;
    /// assert_eq!(Faults::swarm(7), Faults::swarm(7));
    /// assert_ne!(Faults::swarm(7), Faults::swarm(8));
    /// ```
    pub fn swarm(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut rate = |most: u64| if random.below(2) == 0 { 0 } else { 1 + random.narrow(most) };
        let (slow, throttled, lost, doubled, late) = (rate(100), rate(100), rate(100), rate(100), rate(50));
        let (partial, lagging, never_boots, dies, falters) = (rate(200), rate(200), rate(50), rate(50), rate(50));
        let (shortage, crowded, zone_loss) = (rate(200), rate(200), rate(50));
        let mut time = |most: u64| Duration::from_millis(random.below(most));
        Self {
            seed,
            slow,
            slow_by: time(10_000),
            throttled,
            lost,
            doubled,
            late,
            late_by: time(300_000),
            partial,
            lagging,
            lag_by: time(10_000),
            boot_spread: time(60_000),
            never_boots,
            dies,
            falters,
            lifetime: time(7_200_000),
            shortage,
            quota: None,
            crowded,
            zones: 3,
            zone_loss,
            skew: SignedDuration::from_millis(time(4_000).as_millis().try_into().unwrap_or(0))
                - SignedDuration::from_secs(2),
            off: BTreeSet::new(),
        }
    }

    fn draw(&self, fault: Fault) -> Random {
        let operation = fault.operation.map_or(0, |operation| operation as u64 + 1);
        let mut random = Random::new(self.seed);
        for part in [fault.kind as u64, operation, fault.nth] {
            random = Random::new(random.draw() ^ part);
        }
        random
    }

    fn per_mille(&self, kind: FaultKind) -> u32 {
        match kind {
            FaultKind::Slow => self.slow,
            FaultKind::Throttled => self.throttled,
            FaultKind::Lost => self.lost,
            FaultKind::Doubled => self.doubled,
            FaultKind::Late => self.late,
            FaultKind::Partial => self.partial,
            FaultKind::Lagging => self.lagging,
            FaultKind::NeverBoots => self.never_boots,
            FaultKind::Dies => self.dies,
            FaultKind::Falters => self.falters,
            FaultKind::Shortage => self.shortage,
            FaultKind::Crowded => self.crowded,
            FaultKind::ZoneLoss => self.zone_loss,
        }
    }

    /// The further draws of a fault, if it strikes.
    fn strike(&self, fault: Fault) -> Option<Random> {
        let rate = self.per_mille(fault.kind);
        let mut random = self.draw(fault);
        (random.below(1_000) < u64::from(rate) && !self.off.contains(&fault)).then_some(random)
    }
}

/// What was drawn for an instance when it was started. Moments are counted from the start of the simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) boot_longer: Duration,
    pub(super) never_boots: bool,
    pub(super) dies: Option<Duration>,
    pub(super) falters: Option<(Duration, Duration)>,
}

impl State {
    /// The further draws of a fault, if it strikes; it is then among those that struck.
    pub(super) fn strike(&mut self, kind: FaultKind, operation: Option<Operation>, nth: u64) -> Option<Random> {
        let fault = Fault { kind, operation, nth };
        let random = self.options.faults.strike(fault)?;
        self.struck.insert(fault);
        Some(random)
    }

    /// Whether there is no capacity at all now.
    pub(super) fn is_short(&mut self) -> bool {
        let window = self.now.as_secs() / SHORTAGE.as_secs();
        self.strike(FaultKind::Shortage, None, window).is_some()
    }

    /// Whether the quota has no room now for so many more instances.
    pub(super) fn is_over_quota(&mut self, more: usize) -> bool {
        let window = self.now.as_secs() / SHORTAGE.as_secs();
        let full = self.options.faults.quota.is_some_and(|quota| self.machines.len() + more > quota);
        let room = self.strike(FaultKind::Crowded, None, window).map(|mut random| random.below(4));
        full || room.is_some_and(|room| more as u64 > room)
    }

    /// The zone in which the next instance is started: the first, by turns, that is not lost now.
    fn zone(&mut self, nth: u64) -> Option<u32> {
        let zones = self.options.faults.zones.max(1);
        let first = u32::try_from(nth % u64::from(zones)).unwrap_or(0);
        (0..zones).map(|turn| (first + turn) % zones).find(|zone| !self.is_lost(*zone))
    }

    fn is_lost(&mut self, zone: u32) -> bool {
        let window = self.now.as_secs() / ZONE_WINDOW.as_secs();
        self.loss(zone, window).is_some_and(|(from, until)| from <= self.now && self.now < until)
    }

    /// From when until when a zone is lost in a window.
    fn loss(&mut self, zone: u32, window: u64) -> Option<(Duration, Duration)> {
        let zones = self.options.faults.zones;
        if zones == 0 {
            return None;
        }
        let fault =
            Fault { kind: FaultKind::ZoneLoss, operation: None, nth: window * u64::from(zones) + u64::from(zone) };
        let mut random = self.options.faults.strike(fault)?;
        self.struck.insert(fault);
        let from = ZONE_WINDOW * u32::try_from(window).unwrap_or(u32::MAX) + random.within(ZONE_WINDOW / 2);
        Some((from, from + random.within(ZONE_WINDOW / 2)))
    }

    /// What will become of the next instance; `None` when no zone starts one now.
    pub(super) fn fate(&mut self) -> Option<Fate> {
        let (nth, now) = (self.started, self.now);
        let zone = self.zone(nth)?;
        let lifetime = self.options.faults.lifetime;
        let dies = self.strike(FaultKind::Dies, None, nth).map(|mut random| now + random.within(lifetime));
        let falters = self.strike(FaultKind::Falters, None, nth).map(|mut random| {
            let from = now + random.within(lifetime);
            (from, from + random.within(Duration::from_mins(2)))
        });
        let window = now.as_secs() / ZONE_WINDOW.as_secs();
        // A day and a half: whoever lives longer than a rollout takes has survived it.
        let lost = (window..window + 36).filter_map(|window| self.loss(zone, window)).map(|(from, _)| from);
        let lost = lost.collect::<Vec<_>>().into_iter().find(|from| *from > now);
        let mut boot = self.options.faults.draw(Fault { kind: FaultKind::NeverBoots, operation: None, nth });
        Some(Fate {
            boot_longer: boot.within(self.options.faults.boot_spread),
            never_boots: self.strike(FaultKind::NeverBoots, None, nth).is_some(),
            dies: [dies, lost].into_iter().flatten().min(),
            falters,
        })
    }
}

/// A small random generator: splitmix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a limit; 0 below 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    fn narrow(&mut self, limit: u64) -> u32 {
        u32::try_from(self.below(limit)).unwrap_or(u32::MAX)
    }

    /// A time shorter than a limit, in whole milliseconds.
    pub(super) fn within(&mut self, limit: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{after, cx, fleet};
    use super::super::{SimCloud, SimOptions};
    use super::*;
    use crate::provider::{Effect, ErrorKind};

    fn cloud(faults: Faults) -> SimCloud {
        SimCloud::new(SimOptions { faults, ..SimOptions::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_outlives_its_caller_and_lands_late() {
        let cloud = cloud(Faults { seed: 3, late: 1_000, late_by: Duration::from_mins(5), ..Faults::default() });
        let (fleets, spec) = (cloud.platform().fleets, fleet(&cloud, "1", 2));
        let (cx, short) = (cx(), Duration::from_millis(1));
        assert!(tokio::time::timeout(short, fleets.ensure(&cx, &spec)).await.is_err());
        assert!(cloud.instances().is_empty());
        after(300).await;
        assert_eq!(cloud.instances().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_a_timeout_and_a_doubled_request_starts_nothing_twice() {
        let cloud = cloud(Faults { lost: 1_000, doubled: 1_000, ..Faults::default() });
        let error = cloud.platform().fleets.ensure(&cx(), &fleet(&cloud, "1", 2)).await.expect_err("lost");
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Timeout, Effect::Unknown));
        assert_eq!((cloud.instances().len(), cloud.log().len()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_switched_off_and_all_others_stay() {
        let run = async |off: BTreeSet<Fault>| {
            let cloud =
                cloud(Faults { seed: 9, dies: 500, lifetime: Duration::from_mins(9), off, ..Faults::default() });
            cloud.platform().fleets.ensure(&cx(), &fleet(&cloud, "1", 8)).await.unwrap();
            cloud.struck()
        };
        let mut all = run(BTreeSet::new()).await;
        let first = all.pop_first().unwrap();
        assert!(!all.is_empty());
        assert_eq!(run([first].into()).await, all);
    }

    #[tokio::test(start_paused = true)]
    async fn without_capacity_nothing_starts_and_over_the_quota_neither() {
        let short = Faults { shortage: 1_000, ..Faults::default() };
        let full = Faults { quota: Some(1), ..Faults::default() };
        let crowded = Faults { crowded: 1_000, ..Faults::default() };
        let cases = [(short, ErrorKind::Capacity), (full, ErrorKind::Quota), (crowded, ErrorKind::Quota)];
        for (faults, kind) in cases {
            let cloud = cloud(faults);
            let error = cloud.platform().fleets.ensure(&cx(), &fleet(&cloud, "1", 4)).await.expect_err("no room");
            assert_eq!((error.kind(), error.effect()), (kind, Effect::None));
            assert!(cloud.instances().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_instances_of_a_lost_zone_die_together() {
        let cloud = cloud(Faults { zones: 2, zone_loss: 1_000, ..Faults::default() });
        // Zones are lost in every hour, so whoever was started before is gone an hour later.
        let _ = cloud.platform().fleets.ensure(&cx(), &fleet(&cloud, "1", 6)).await;
        let started = cloud.instances().len();
        after(3_600).await;
        assert!(started > 0 && cloud.instances().iter().all(|instance| !instance.is_good));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lagging_list_says_how_old_it_is() {
        let cloud = cloud(Faults { lagging: 1_000, lag_by: Duration::from_secs(9), ..Faults::default() });
        let (fleets, spec) = (cloud.platform().fleets, fleet(&cloud, "1", 1));
        let mut lagged = false;
        for size in 1..20 {
            fleets.ensure(&cx(), &fleet(&cloud, "1", size)).await.unwrap();
            let (now, state) = (cloud.now(), fleets.observe(&cx(), &spec.service).await.unwrap());
            lagged |= state.as_of < now;
            let told = state.fleets.first().map_or(0, |fleet| fleet.instances.len());
            assert!(state.as_of < now || told == size as usize);
        }
        assert!(lagged);
    }
}
