//! What is next on the way to an image, told by what is there and by nothing else.

use std::time::Duration;

use aws_sdk_ec2::types::{Image as Ami, ImageState, InstanceStateName};
use jiff::Timestamp;

use super::ami;
use super::builder::Builder;

/// The one thing to do now.
#[derive(Debug, PartialEq)]
pub(super) enum Next<'a> {
    /// The image is there.
    Done(&'a Ami, immutable_core::model::Image),
    /// Nothing, for this reason.
    Wait(String),
    /// Somebody has taken the image out of use.
    Disabled(&'a Ami),
    /// The image could not be made: take away what there is of it.
    Discard(&'a Ami),
    /// There is more than one builder: end all but the first.
    EndSurplus(Vec<&'a Builder>),
    /// The builder has had its time.
    GiveUp(&'a Builder),
    /// The builder has switched itself off: hear why.
    Listen(&'a Builder),
    /// Start a builder.
    Start,
}

/// The next step, from the AMIs of the recipe in every state and from its living builders.
pub(super) fn next<'a>(amis: &'a [Ami], builders: &[&'a Builder], deadline: Duration, now: Timestamp) -> Next<'a> {
    let in_state = |states: &[ImageState]| {
        let mut found: Vec<&Ami> = amis.iter().filter(|ami| ami.state().is_some_and(|s| states.contains(s))).collect();
        // The same one for everybody who looks.
        found.sort_by_key(|ami| (ami.creation_date(), ami.image_id()));
        found.first().copied()
    };
    let available = in_state(&[ImageState::Available]);
    if let Some((ami, image)) = available.and_then(|ami| Some((ami, ami::image(ami)?))) {
        return Next::Done(ami, image);
    }
    if let Some(ami) = in_state(&[ImageState::Pending, ImageState::Transient]) {
        return Next::Wait(format!("image {} to become available", ami.image_id().unwrap_or_default()));
    }
    if let Some(ami) = in_state(&[ImageState::Disabled]) {
        return Next::Disabled(ami);
    }
    if let Some(ami) = in_state(&[ImageState::Failed, ImageState::Error, ImageState::Invalid]) {
        return Next::Discard(ami);
    }
    let mut builders = builders.to_vec();
    // The oldest stays, for everybody who looks.
    builders.sort_by_key(|builder| (builder.launched, &builder.id));
    match builders[..] {
        [] => Next::Start,
        [_, ref surplus @ ..] if !surplus.is_empty() => Next::EndSurplus(surplus.to_vec()),
        [builder, ..] if builder.state == InstanceStateName::Stopped => Next::Listen(builder),
        [builder, ..] if builder.is_late(deadline, now) => Next::GiveUp(builder),
        [builder, ..] => Next::Wait(format!("builder {} to finish: it is {}", builder.id, builder.state.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::ResourceType;
    use immutable_core::model::Fingerprint;

    use super::*;
    use crate::tags::{self, Tags};

    const NOW: &str = "2026-01-02T03:10:00Z";

    fn ami(id: &str, state: ImageState) -> Ami {
        let tags = tags::tags([
            (tags::IMAGE, Fingerprint::of("it").to_string().as_str()),
            (tags::BUILT_AT, "2026-01-02T03:04:05Z"),
        ]);
        let tags = tags::specification(ResourceType::Image, &tags).tags;
        Ami::builder().image_id(id).state(state).set_tags(tags).build()
    }

    fn builder(id: &str, state: InstanceStateName, launched: &str) -> Builder {
        Builder { id: id.into(), state, launched: launched.parse().unwrap(), tags: Tags::new(), reason: None }
    }

    fn decided(amis: &[Ami], builders: &[Builder]) -> String {
        let builders: Vec<&Builder> = builders.iter().collect();
        match next(amis, &builders, Duration::from_mins(30), NOW.parse().unwrap()) {
            Next::Done(ami, image) => format!("done {} {}", ami.image_id().unwrap(), image.id),
            Next::Wait(what) => format!("wait for {what}"),
            Next::Disabled(ami) => format!("disabled {}", ami.image_id().unwrap()),
            Next::Discard(ami) => format!("discard {}", ami.image_id().unwrap()),
            Next::EndSurplus(surplus) => {
                format!("end {}", surplus.iter().map(|builder| builder.id.as_str()).collect::<Vec<_>>().join(" "))
            }
            Next::GiveUp(builder) => format!("give up {}", builder.id),
            Next::Listen(builder) => format!("listen to {}", builder.id),
            Next::Start => "start".to_owned(),
        }
    }

    #[test]
    fn each_state_of_the_world_has_its_next_step() {
        use ImageState::{Available, Deregistered, Disabled, Failed, Pending};
        use InstanceStateName::{Running, Stopped, Stopping};
        let early = "2026-01-02T03:00:00Z";
        let long_ago = "2026-01-02T02:00:00Z";
        let running = || builder("i-1", Running, early);
        let cases = [
            (vec![], vec![], "start"),
            (vec![ami("ami-1", Deregistered)], vec![], "start"),
            (vec![], vec![running()], "wait for builder i-1 to finish: it is running"),
            (vec![], vec![builder("i-1", Stopping, early)], "wait for builder i-1 to finish: it is stopping"),
            (vec![], vec![builder("i-1", Stopped, early)], "listen to i-1"),
            (vec![], vec![builder("i-1", Running, long_ago)], "give up i-1"),
            (vec![], vec![builder("i-1", Stopped, long_ago)], "listen to i-1"),
            (vec![], vec![builder("i-3", Running, NOW), builder("i-2", Running, early), running()], "end i-2 i-3"),
            (vec![ami("ami-1", Pending)], vec![running()], "wait for image ami-1 to become available"),
            (vec![ami("ami-1", Failed)], vec![running()], "discard ami-1"),
            (vec![ami("ami-1", Disabled)], vec![running()], "disabled ami-1"),
            (vec![ami("ami-2", Available), ami("ami-1", Available)], vec![running()], "done ami-1 ami-1"),
            (vec![ami("ami-1", Failed), ami("ami-2", Available)], vec![], "done ami-2 ami-2"),
        ];
        for (amis, builders, expected) in cases {
            assert_eq!(decided(&amis, &builders), expected);
        }
    }
}
