//! Requests that moto understands otherwise than AWS, put so that it does what AWS does. Their signatures no longer fit, so they are left
//! alone where nothing differs.

use hyper::http::StatusCode;

use super::call::{Answer, Call};
use super::targets::{self, Targets};

/// How a request goes on.
pub(super) enum Way {
    AsItIs,
    /// In other words.
    As(Call),
    /// There is nothing to be done.
    Done(Answer),
}

pub(super) fn normal(call: &Call, known: &Targets) -> Way {
    match call.action.as_str() {
        // AWS starts as many as it has room for, moto the least.
        "RunInstances" if call.get("MinCount") != call.get("MaxCount") => {
            let max = call.get("MaxCount").unwrap_or("1").to_owned();
            let mut params = call.params();
            params.iter_mut().filter(|(key, _)| key == "MinCount").for_each(|(_, least)| least.clone_from(&max));
            Way::As(call.with(params))
        }
        "CreateImage" => without_tags_of_snapshots(call),
        "DeregisterTargets" => registered_only(call, known),
        _ => Way::AsItIs,
    }
}

/// [A target that is not there is no error](https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html).
fn registered_only(call: &Call, known: &Targets) -> Way {
    let group = call.get("TargetGroupArn").unwrap_or_default();
    let there: Vec<_> = targets::ids(call).filter(|id| known.is_registered(group, id)).collect();
    if there.len() == targets::ids(call).count() {
        return Way::AsItIs;
    }
    if there.is_empty() {
        let body = "<DeregisterTargetsResponse><DeregisterTargetsResult/></DeregisterTargetsResponse>";
        return Way::Done(Answer::xml(StatusCode::OK, body.to_owned()));
    }
    let mut params = call.params();
    params.retain(|(key, _)| !key.starts_with("Targets."));
    // Without their ports: moto knows a target by its id.
    let named = there.iter().enumerate();
    params.extend(named.map(|(index, id)| (format!("Targets.member.{}.Id", index + 1), (*id).to_owned())));
    Way::As(call.with(params))
}

/// The position of the tags for snapshots in a request to make an image.
fn snapshots(call: &Call) -> Option<String> {
    let params = call.params().into_iter();
    let mut kinds = params.filter(|(key, kind)| key.ends_with(".ResourceType") && kind == "snapshot");
    kinds.next().and_then(|(key, _)| key.strip_suffix("ResourceType").map(str::to_owned))
}

fn without_tags_of_snapshots(call: &Call) -> Way {
    let Some(start) = snapshots(call) else { return Way::AsItIs };
    let mut params = call.params();
    params.retain(|(key, _)| !key.starts_with(&start));
    Way::As(call.with(params))
}

/// The tags for snapshots in a request to make an image, as parameters of a request of their own.
pub(super) fn tags_of_snapshots(call: &Call) -> Vec<(String, String)> {
    let Some(start) = snapshots(call).filter(|_| call.action == "CreateImage") else { return Vec::new() };
    let params = call.params().into_iter();
    params
        .filter_map(|(key, value)| Some((key.strip_prefix(&start)?.to_owned(), value)))
        .filter(|(key, _)| key.starts_with("Tag."))
        .collect()
}
