//! Lists come in small pages, whatever size was asked for: moto gives up to a hundred things at once, and some lists whole.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

use super::call::{Answer, Call};
use super::xml::{all, child, edited};

/// A list: the action, the element that its things are in, and where the token for the rest goes.
struct List {
    action: &'static str,
    things: &'static str,
    token: Token,
    /// Parameters that name single things: such an answer has no pages.
    by_name: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Token {
    /// `nextToken` at the end of the answer.
    Ec2,
    /// `NextToken` in the result.
    Next,
    /// `NextMarker` in the result, `Marker` in the request.
    Marker,
}

impl Token {
    fn in_answer(self) -> &'static str {
        match self {
            Self::Ec2 => "nextToken",
            Self::Next => "NextToken",
            Self::Marker => "NextMarker",
        }
    }

    fn in_request(self) -> &'static str {
        if matches!(self, Self::Marker) { "Marker" } else { "NextToken" }
    }

    fn size(self) -> &'static str {
        match self {
            Self::Ec2 => "MaxResults",
            Self::Next => "MaxRecords",
            Self::Marker => "PageSize",
        }
    }
}

const fn list(action: &'static str, things: &'static str, token: Token, by_name: &'static [&'static str]) -> List {
    List { action, things, token, by_name }
}

static LISTS: &[List] = &[
    list("DescribeInstances", "reservationSet", Token::Ec2, &["InstanceId."]),
    list("DescribeInstanceStatus", "instanceStatusSet", Token::Ec2, &["InstanceId."]),
    list("DescribeLaunchTemplates", "launchTemplates", Token::Ec2, &["LaunchTemplateId.", "LaunchTemplateName."]),
    list("DescribeLaunchTemplateVersions", "launchTemplateVersionSet", Token::Ec2, &["LaunchTemplateVersion."]),
    list("DescribeImages", "imagesSet", Token::Ec2, &["ImageId."]),
    list("DescribeSnapshots", "snapshotSet", Token::Ec2, &["SnapshotId."]),
    list("DescribeTags", "tagSet", Token::Ec2, &[]),
    list("DescribeAutoScalingGroups", "AutoScalingGroups", Token::Next, &[]),
    list("DescribeAutoScalingInstances", "AutoScalingInstances", Token::Next, &[]),
    list("DescribeScalingActivities", "Activities", Token::Next, &[]),
    list("DescribeTargetGroups", "TargetGroups", Token::Marker, &["TargetGroupArns.", "Names."]),
    list("DescribeListeners", "Listeners", Token::Marker, &["ListenerArns."]),
    list("DescribeRules", "Rules", Token::Marker, &["RuleArns."]),
];

/// The rest of the lists that somebody has begun to read.
#[derive(Debug, Default)]
pub(super) struct Pages {
    rest: BTreeMap<String, Answer>,
    count: usize,
}

impl Pages {
    /// The page that a token of ours stands for. A token is good for one page of one list, once or more often.
    pub(super) fn next(&self, call: &Call) -> Option<Answer> {
        let list = LISTS.iter().find(|list| list.action == call.action)?;
        self.rest.get(call.get(list.token.in_request())?).cloned()
    }

    /// The first page of an answer; the others are kept until they are asked for.
    pub(super) fn cut(&mut self, call: &Call, answer: Answer, largest: usize) -> Answer {
        let Some(list) = LISTS.iter().find(|list| list.action == call.action) else { return answer };
        let Some(text) = answer.text() else { return answer };
        if list.by_name.iter().any(|name| call.names(name)) {
            return answer;
        }
        let asked = call.get(list.token.size()).and_then(|size| size.parse().ok()).unwrap_or(largest);
        let size = largest.min(asked).max(1);
        let mut pages = pages(text, list, size);
        let first = pages.remove(0);
        let mut token = None;
        for page in pages.into_iter().rev() {
            let name = format!("proxy-page-{}", self.count);
            self.count += 1;
            let page = with_token(&page, list, token.as_deref());
            self.rest.insert(name.clone(), answer.clone().with_text(page));
            token = Some(name);
        }
        let first = with_token(&first, list, token.as_deref());
        answer.with_text(first)
    }
}

/// The same answer several times, each with some of the things. A token of moto's stays with the last.
fn pages(text: &str, list: &List, size: usize) -> Vec<String> {
    let mut count = 0;
    edited(text, |document, _| count = things(document, list).count());
    let page = |from: usize| {
        edited(text, |document, edits| {
            let others = things(document, list).enumerate().filter(|(index, _)| !(from..from + size).contains(index));
            others.for_each(|(_, thing)| edits.replace(thing, ""));
            if from + size < count {
                all(document, list.token.in_answer()).for_each(|token| edits.replace(token, ""));
            }
        })
    };
    (0..count.max(1)).step_by(size).map(page).collect()
}

fn things<'a, 'i>(document: &'a Document<'i>, list: &List) -> impl Iterator<Item = Node<'a, 'i>> {
    all(document, list.things).take(1).flat_map(|things| things.children())
}

fn with_token(text: &str, list: &List, token: Option<&str>) -> String {
    let Some(token) = token else { return text.to_owned() };
    let name = list.token.in_answer();
    edited(text, |document, edits| {
        let things = all(document, list.things).next();
        let there = things.and_then(|things| child(things.parent()?, name));
        if let Some(there) = there {
            edits.replace(there, format!("<{name}>{token}</{name}>"));
        } else if let Some(things) = things {
            edits.insert(things.range().end, format!("<{name}>{token}</{name}>"));
        }
    })
}
