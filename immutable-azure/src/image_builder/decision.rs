//! What is next on the way to an image, told by what is there and by nothing else.

use std::time::Duration;

use jiff::Timestamp;

use super::artifact::{Artifact, State};
use super::builder::{Builder, Power};
use crate::operation::Standing;

/// The one thing to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The image is there. What it was made on has to end.
    Done,
    /// Nothing but to wait for the image to be ready, or to be gone.
    WaitForImage,
    /// Nothing but to wait for what happens to the builder.
    WaitForBuilder,
    /// The image could not be made: take away what there is of it.
    Discard,
    /// The builder may have said how it went: hear it.
    Listen,
    /// The builder is done: have it made into a pattern and switched off.
    Seal,
    /// The builder is sealed: give its place back.
    Deallocate,
    /// Azure has to know it for a pattern.
    Generalize,
    /// All is ready: make the image of it.
    Make,
    /// The builder could not be started.
    Failed,
    /// The builder has had its time.
    GiveUp,
    /// All is ready, and for as long as anybody needed the builder no image could be made of it.
    NeverMade,
    /// The builder is off and was not done.
    Stopped,
    /// Start a builder.
    Start,
}

/// The next step, from what is under the id of the image and from its builder.
pub(super) fn next(image: Option<&Artifact>, builder: Option<&Builder>, deadline: Duration, now: Timestamp) -> Next {
    match image.map(|image| image.state) {
        Some(State::Ready) => return Next::Done,
        Some(State::Pending | State::Deleting) => return Next::WaitForImage,
        Some(State::Failed) => return Next::Discard,
        None => {}
    }
    let Some(builder) = builder else { return Next::Start };
    let is_late = builder.is_late(deadline, now);
    let is_done = builder.content().is_some();
    match (builder.standing, builder.power) {
        _ if builder.is_deleting => Next::WaitForBuilder,
        (Standing::Settled, Power::Stopped | Power::Deallocated) if is_done && builder.is_generalized => {
            if builder.is_expired(now) { Next::NeverMade } else { Next::Make }
        }
        // A change of one that was made: what it is says more than how that ended.
        (Standing::Failed, Power::Changing) => Next::Failed,
        (Standing::Busy, _) | (_, Power::Changing) if !is_late => Next::WaitForBuilder,
        (Standing::Busy, _) | (_, Power::Changing) => Next::GiveUp,
        // What it has said last is heard, however late.
        (_, Power::Running) if !is_done => Next::Listen,
        _ if is_late => Next::GiveUp,
        (_, Power::Running) => Next::Seal,
        _ if !is_done => Next::Stopped,
        (_, Power::Stopped) => Next::Deallocate,
        (_, Power::Deallocated) => Next::Generalize,
    }
}

#[cfg(test)]
mod tests {
    use immutable_core::model::{Fingerprint, Image, ImageLabels};
    use serde_json::{Value, json};

    use super::super::record::{BUILDER, CONTENT, EXPIRES_AT, Record};
    use super::*;

    const NOW: &str = "2026-01-02T03:10:00Z";
    const EARLY: &str = "2026-01-02T03:00:00Z";
    const LONG_AGO: &str = "2026-01-02T02:00:00Z";

    fn image(state: State) -> Artifact {
        let labels = ImageLabels { version: "1".into(), commit: None, built_at: Timestamp::UNIX_EPOCH };
        let image = Image { id: "i".parse().unwrap(), fingerprint: Fingerprint::of("i"), parents: Vec::new(), labels };
        Artifact { id: "i".into(), state, image, regions: Vec::new() }
    }

    fn builder(standing: Standing, power: Power, created: &str, is_done: bool) -> Builder {
        let record = Record {
            service: "web".parse().unwrap(),
            recipe: Fingerprint::of("it"),
            nonce: "n".into(),
            version: "1".into(),
            commit: None,
            parents: vec![],
        };
        let mut tags: Value = record.tags(BUILDER).into();
        if is_done {
            tags[CONTENT] = json!("c");
        }
        Builder {
            name: "b".into(),
            record,
            created: created.parse().unwrap(),
            standing,
            is_deleting: false,
            power,
            is_generalized: false,
            tags,
            etag: None,
            complaint: None,
        }
    }

    #[test]
    fn each_state_of_the_world_has_its_next_step() {
        use Power::{Changing, Deallocated, Running, Stopped};
        use Standing::{Busy, Failed, Settled};
        let decided = |image: Option<Artifact>, builder: Option<Builder>| {
            next(image.as_ref(), builder.as_ref(), Duration::from_mins(30), NOW.parse().unwrap())
        };
        let running = || Some(builder(Settled, Running, EARLY, false));
        assert_eq!(decided(None, None), Next::Start);
        for (state, expected) in [
            (State::Ready, Next::Done),
            (State::Pending, Next::WaitForImage),
            (State::Deleting, Next::WaitForImage),
            (State::Failed, Next::Discard),
        ] {
            assert_eq!(decided(Some(image(state)), running()), expected);
            assert_eq!(decided(Some(image(state)), None), expected);
        }
        for (standing, power, created, is_done, expected) in [
            (Busy, Changing, EARLY, false, Next::WaitForBuilder),
            (Busy, Changing, LONG_AGO, false, Next::GiveUp),
            (Failed, Changing, EARLY, false, Next::Failed),
            (Failed, Changing, LONG_AGO, false, Next::Failed),
            (Settled, Running, EARLY, false, Next::Listen),
            (Settled, Running, LONG_AGO, false, Next::Listen),
            (Failed, Running, EARLY, false, Next::Listen),
            (Busy, Running, EARLY, true, Next::WaitForBuilder),
            (Settled, Running, EARLY, true, Next::Seal),
            (Settled, Running, LONG_AGO, true, Next::GiveUp),
            (Settled, Stopped, EARLY, true, Next::Deallocate),
            (Failed, Stopped, EARLY, true, Next::Deallocate),
            (Busy, Stopped, EARLY, true, Next::WaitForBuilder),
            (Settled, Deallocated, EARLY, true, Next::Generalize),
            (Settled, Deallocated, LONG_AGO, true, Next::GiveUp),
            (Settled, Stopped, EARLY, false, Next::Stopped),
            (Settled, Deallocated, EARLY, false, Next::Stopped),
            (Settled, Stopped, LONG_AGO, false, Next::GiveUp),
        ] {
            let found = decided(None, Some(builder(standing, power, created, is_done)));
            assert_eq!(found, expected, "{standing:?} {power:?} {created} {is_done}");
        }
        let sealed = |is_deleting| Builder {
            is_generalized: true,
            is_deleting,
            ..builder(Settled, Deallocated, LONG_AGO, true)
        };
        assert_eq!(decided(None, Some(sealed(false))), Next::Make);
        assert_eq!(decided(None, Some(sealed(true))), Next::WaitForBuilder);
        for (seconds, expected) in [(-1, Next::NeverMade), (0, Next::NeverMade), (1, Next::Make)] {
            let mut builder = sealed(false);
            let expires = NOW.parse::<Timestamp>().unwrap().as_second() + seconds;
            builder.tags[EXPIRES_AT] = expires.to_string().into();
            assert_eq!(decided(None, Some(builder)), expected, "{seconds}");
        }
    }
}
