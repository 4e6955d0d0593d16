//! What AWS refuses and moto does not.

use std::collections::{BTreeMap, BTreeSet};

use super::Options;
use super::call::{Answer, Call};
use super::machines::Machines;
use super::targets;

/// What was made, as far as a later request is held against it.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The largest size of each group.
    groups: BTreeMap<String, u64>,
    /// The AMI of each launch template, by its id and by its name.
    templates: BTreeMap<String, String>,
    deregistered: BTreeSet<String>,
    /// The images that were made of instances, by their names.
    images: BTreeMap<String, String>,
}

impl Rules {
    pub(super) fn learn(&mut self, call: &Call, answer: &str) {
        let group = call.get("AutoScalingGroupName").unwrap_or_default().to_owned();
        match call.action.as_str() {
            "CreateAutoScalingGroup" | "UpdateAutoScalingGroup" => {
                if let Some(max) = call.get("MaxSize").and_then(|max| max.parse().ok()) {
                    self.groups.insert(group, max);
                }
            }
            "DeleteAutoScalingGroup" => drop(self.groups.remove(&group)),
            "CreateLaunchTemplate" => {
                let image = call.get("LaunchTemplateData.ImageId").unwrap_or_default();
                let id = between(answer, "<launchTemplateId>", "</launchTemplateId>");
                for name in call.get("LaunchTemplateName").into_iter().chain(id) {
                    self.templates.insert(name.to_owned(), image.to_owned());
                }
            }
            "CreateImage" => {
                let made = call.get("Name").zip(between(answer, "<imageId>", "</imageId>"));
                self.images.extend(made.map(|(name, id)| (name.to_owned(), id.to_owned())));
            }
            "DeregisterImage" => {
                let id = call.get("ImageId").unwrap_or_default();
                self.images.retain(|_, image| image != id);
                self.deregistered.insert(id.to_owned());
            }
            _ => {}
        }
    }

    /// Why AWS would refuse this request.
    pub(super) fn refusal(&self, call: &Call, machines: &Machines, options: &Options) -> Option<Answer> {
        let refuse = |code: &str, message: &str| Some(Answer::refusal(&call.service, 400, code, message));
        let group = call.get("AutoScalingGroupName").and_then(|name| self.groups.get(name));
        match call.action.as_str() {
            // moto replaces the group that is there.
            "CreateAutoScalingGroup" if group.is_some() => {
                refuse("AlreadyExists", "AutoScalingGroup by this name already exists")
            }
            // moto answers with a page in HTML.
            "SetDesiredCapacity" | "UpdateAutoScalingGroup" | "DeleteAutoScalingGroup" if group.is_none() => {
                refuse("ValidationError", "AutoScalingGroup name not found - null")
            }
            "SetDesiredCapacity" | "UpdateAutoScalingGroup" => {
                let wanted = call.get("DesiredCapacity").and_then(|wanted| wanted.parse::<u64>().ok());
                let max = call.get("MaxSize").and_then(|max| max.parse().ok()).or(group.copied());
                let is_above = wanted.is_some_and(|wanted| max.is_some_and(|max| wanted > max));
                is_above.then_some(()).and_then(|()| {
                    refuse(
                        "ValidationError",
                        "New SetDesiredCapacity value is above max value for the AutoScalingGroup.",
                    )
                })
            }
            "RunInstances" | "CreateFleet" => {
                let named = call.all("", "LaunchTemplateId").chain(call.all("", "LaunchTemplateName"));
                let images = named.filter_map(|name| self.templates.get(name)).map(String::as_str);
                let mut images = images.chain(call.get("ImageId"));
                let is_gone = images.any(|image| self.deregistered.contains(image));
                is_gone
                    .then_some(())
                    .and_then(|()| refuse("InvalidAMIID.Unavailable", "The image ID is no longer available"))
            }
            // moto makes a second image of the same name.
            "CreateImage" if call.get("Name").is_some_and(|name| self.images.contains_key(name)) => {
                refuse("InvalidAMIName.Duplicate", "AMI name is already in use by another AMI")
            }
            "RegisterTargets" => {
                let pending = targets::ids(call).find(|id| machines.is_pending(id, options))?;
                refuse("InvalidTarget", &format!("The following targets are not in a running state: '{pending}'"))
            }
            "ModifyListener" | "ModifyRule" | "CreateRule" | "CreateListener" => {
                weights(call).and_then(|(code, message)| refuse(code, message))
            }
            _ => None,
        }
    }
}

/// A denial in the form, and for EC2 with the code, that the service has for it.
pub(super) fn denied(call: &Call, answer: &Answer) -> Answer {
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    let part = |start, end| between(text, start, end).unwrap_or_default();
    let code = match part("<Code>", "</Code>") {
        "AccessDenied" if call.service == "ec2" => "UnauthorizedOperation",
        code => code,
    };
    Answer::refusal(&call.service, answer.status.as_u16(), code, part("<Message>", "</Message>"))
}

/// [What a forward action may hold](https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html).
fn weights(call: &Call) -> Option<(&'static str, &'static str)> {
    let is_wrong = |weight: &str| !weight.parse::<u32>().is_ok_and(|weight| weight <= 999);
    if call.all("", ".Weight").any(is_wrong) {
        return Some(("ValidationError", "Weight must be between 0 and 999"));
    }
    let groups: BTreeSet<_> = call.all("", ".TargetGroupArn").collect();
    (groups.len() > 5).then_some(("TooManyTargetGroups", "An action can have at most 5 target groups"))
}

/// What stands between two texts.
pub(super) fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}
