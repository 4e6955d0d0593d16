//! What is next on the way to an image, told by what is there and by nothing else.

use std::time::Duration;

use google_cloud_compute_v1::model::instance::Status as Machine;
use jiff::Timestamp;

use super::artifact::{Artifact, State};
use super::builder::Builder;

/// The one thing to do now.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    /// The image is there. What it was made on has to end.
    Done(&'a Artifact, Vec<&'a Builder>),
    /// There is more than one builder: end these.
    EndSurplus(Vec<&'a Builder>),
    /// Nothing, for this reason.
    Wait(String),
    /// Somebody has taken the image out of use.
    OutOfUse(&'a Artifact),
    /// The image could not be made: take away what there is of it.
    Discard(&'a Artifact),
    /// The builder may have said how it went: hear it, and switch it off.
    Listen(&'a Builder),
    /// The builder is done: switch it off.
    Stop(&'a Builder),
    /// The builder is done and off: make the image of its disk.
    Make(&'a Builder),
    /// The builder has had its time.
    GiveUp(&'a Builder),
    /// The builder is off and was not done.
    Stopped(&'a Builder),
    /// Start a builder.
    Start,
}

/// The next step, from the images of the recipe in every state and from its builders.
pub(super) fn next<'a>(
    images: &'a [Artifact],
    builders: &[&'a Builder],
    deadline: Duration,
    now: Timestamp,
) -> Next<'a> {
    // The oldest stays, for everybody who looks.
    let mut builders = builders.to_vec();
    builders.sort_by_key(|builder| (builder.created, &builder.zone));
    let in_state = |state: State| images.iter().find(|image| image.state == state);
    if let Some(image) = in_state(State::Ready) {
        return Next::Done(image, builders);
    }
    if let Some(image) = in_state(State::Pending) {
        return Next::Wait(format!("image {} to be ready", image.name));
    }
    if let Some(image) = in_state(State::Deleting) {
        return Next::Wait(format!("image {} to be gone", image.name));
    }
    if let Some(image) = in_state(State::OutOfUse) {
        return Next::OutOfUse(image);
    }
    if let Some(image) = in_state(State::Failed) {
        return Next::Discard(image);
    }
    let (Some(builder), surplus) = (builders.first().copied(), builders.split_off(1.min(builders.len()))) else {
        return Next::Start;
    };
    if !surplus.is_empty() {
        return Next::EndSurplus(surplus);
    }
    let is_late = builder.is_late(deadline, now);
    match (&builder.status, builder.content().is_some()) {
        (Machine::Terminated, true) => Next::Make(builder),
        (Machine::Terminated, false) if is_late => Next::GiveUp(builder),
        (Machine::Terminated, false) => Next::Stopped(builder),
        (Machine::Running, true) => Next::Stop(builder),
        (Machine::Running, false) => Next::Listen(builder),
        (_, false) if is_late => Next::GiveUp(builder),
        (status, _) => {
            Next::Wait(format!("builder {}, which is {}", builder.name, status.name().unwrap_or("changing")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_builder::ImageUse;
    use crate::image_builder::record::{CONTENT, EXPIRES_AT};

    const NOW: &str = "2026-01-02T03:10:00Z";

    fn image(name: &str, state: State) -> Artifact {
        Artifact { name: name.to_owned(), state, usable: ImageUse::Active, image: None }
    }

    fn builder(zone: &str, status: Machine, created: &str, content: Option<&str>) -> Builder {
        let labels = [(EXPIRES_AT, Some("1")), (CONTENT, content)];
        let label = |(key, value): (&str, Option<&str>)| Some((key.to_owned(), value?.to_owned()));
        Builder {
            name: "b".to_owned(),
            zone: zone.to_owned(),
            status,
            created: created.parse().unwrap(),
            labels: labels.into_iter().filter_map(label).collect(),
            label_fingerprint: None,
            description: String::new(),
        }
    }

    fn decided(images: &[Artifact], builders: &[Builder]) -> String {
        let builders: Vec<&Builder> = builders.iter().collect();
        let zones = |builders: Vec<&Builder>| {
            builders.iter().map(|builder| format!(" {}", builder.zone)).collect::<Vec<_>>().concat()
        };
        match next(images, &builders, Duration::from_mins(30), NOW.parse().unwrap()) {
            Next::Done(image, builders) => format!("done {}{}", image.name, zones(builders)),
            Next::EndSurplus(builders) => format!("end{}", zones(builders)),
            Next::Wait(what) => format!("wait for {what}"),
            Next::OutOfUse(image) => format!("out of use {}", image.name),
            Next::Discard(image) => format!("discard {}", image.name),
            Next::Listen(_) => "listen".to_owned(),
            Next::Stop(_) => "stop".to_owned(),
            Next::Make(_) => "make".to_owned(),
            Next::GiveUp(_) => "give up".to_owned(),
            Next::Stopped(_) => "stopped".to_owned(),
            Next::Start => "start".to_owned(),
        }
    }

    #[test]
    fn each_state_of_the_world_has_its_next_step() {
        use Machine::{Provisioning, Running, Stopping, Suspended, Terminated};
        let early = "2026-01-02T03:00:00Z";
        let long_ago = "2026-01-02T02:00:00Z";
        let one = |status, created, content| vec![builder("z", status, created, content)];
        let running = || one(Running, early, None);
        let cases = [
            (vec![], vec![], "start"),
            (vec![], one(Provisioning, early, None), "wait for builder b, which is PROVISIONING"),
            (vec![], one(Provisioning, long_ago, None), "give up"),
            (vec![], running(), "listen"),
            (vec![], one(Running, long_ago, None), "listen"),
            (vec![], one(Running, early, Some("1")), "stop"),
            (vec![], one(Running, long_ago, Some("1")), "stop"),
            (vec![], one(Stopping, early, Some("1")), "wait for builder b, which is STOPPING"),
            (vec![], one(Stopping, long_ago, Some("1")), "wait for builder b, which is STOPPING"),
            (vec![], one(Terminated, long_ago, Some("1")), "make"),
            (vec![], one(Terminated, early, None), "stopped"),
            (vec![], one(Terminated, long_ago, None), "give up"),
            (vec![], one(Suspended, long_ago, None), "give up"),
            (vec![], vec![builder("y", Running, NOW, None), builder("x", Running, early, None)], "end y"),
            (vec![image("i", State::Pending)], running(), "wait for image i to be ready"),
            (vec![image("i", State::Deleting)], vec![], "wait for image i to be gone"),
            (vec![image("i", State::Failed)], running(), "discard i"),
            (vec![image("i", State::OutOfUse)], running(), "out of use i"),
            (vec![image("i", State::Ready)], running(), "done i z"),
            (vec![image("i", State::Ready)], vec![], "done i"),
            (vec![image("h", State::Failed), image("i", State::Ready)], vec![], "done i"),
        ];
        for (images, builders, expected) in cases {
            assert_eq!(decided(&images, &builders), expected);
        }
    }
}
