//! Each request that is sent for a route, against answers as AWS gives them.

mod kept;
mod steps;

use std::collections::BTreeMap;
use std::fmt::Write;

use immutable_core::model::{Endpoint, Split};
use immutable_core::provider::{Member, MemberHealth, MemberTarget};

use super::*;
use crate::testing::{Script, Sent};

const NETWORK: &str = "arn:aws:elasticloadbalancing:eu-central-1:1:listener/net/web/50dc/f2f7";
const RULE: &str = "arn:aws:elasticloadbalancing:eu-central-1:1:listener-rule/app/web/50dc/f2f7/9683";
const ORIGINAL: &str = "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/web/73e2";

/// A listener for each test: a process changes a route with one call at a time.
fn listener() -> String {
    let test = std::thread::current().name().unwrap_or_default().replace(':', "-");
    format!("arn:aws:elasticloadbalancing:eu-central-1:1:listener/app/{test}/50dc/f2f7")
}

fn group(fleet: &str) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/im-{fleet}/1")
}

fn fleet(name: &str) -> FleetId {
    name.parse().unwrap()
}

/// A target group as a listener tells of it: its ARN and its weight, its fleet if it is ours, its targets and their states.
type Told<'a> = (&'a str, u32, Option<&'a str>, &'a [(&'a str, &'a str)]);

/// A route, as the API tells of it.
#[derive(Clone)]
struct World<'a> {
    route: String,
    /// What stands before and after the groups.
    around: (&'a str, &'a str),
    groups: &'a [Told<'a>],
    claim: Option<&'a str>,
}

const FORWARD: (&str, &str) = (
    "<member><Type>forward</Type><Order>1</Order><ForwardConfig><TargetGroups>",
    "</TargetGroups><TargetGroupStickinessConfig><Enabled>false</Enabled></TargetGroupStickinessConfig></ForwardConfig></member>",
);

impl<'a> World<'a> {
    fn new(groups: &'a [Told<'a>]) -> Self {
        Self { route: listener(), around: FORWARD, groups, claim: None }
    }

    fn actions(&self) -> String {
        let mut groups = String::new();
        for (arn, weight, ..) in self.groups {
            write!(groups, "<member><TargetGroupArn>{arn}</TargetGroupArn><Weight>{weight}</Weight></member>").unwrap();
        }
        format!("{}{groups}{}", self.around.0, self.around.1)
    }

    fn told(&self, script: &Script) {
        let (route, actions) = (self.route.as_str(), self.actions());
        if route == RULE {
            let conditions = "<Conditions><member><Field>path-pattern</Field></member></Conditions>";
            let rule = format!("<member><RuleArn>{route}</RuleArn>{conditions}<Actions>{actions}</Actions></member>");
            script.answer("DescribeRules", &format!("<Rules>{rule}</Rules>"));
        } else {
            let listener = format!("<ListenerArn>{route}</ListenerArn><Port>443</Port><Protocol>HTTPS</Protocol>");
            let listener = format!("<member>{listener}<DefaultActions>{actions}</DefaultActions></member>");
            script.answer("DescribeListeners", &format!("<Listeners>{listener}</Listeners>"));
        }
    }

    /// All that is read of a route, once.
    fn read(&self, script: &Script) {
        self.told(script);
        let mut all = Vec::new();
        for (arn, _, owner, _) in self.groups {
            let ours = |fleet| {
                vec![("immutable:fleet", fleet), ("immutable:route", self.route.as_str()), ("immutable:like", ORIGINAL)]
            };
            all.push((*arn, owner.map(ours).unwrap_or_default()));
        }
        all.push((&self.route, self.claim.map(|claim| ("immutable:route-version", claim)).into_iter().collect()));
        script.answer("DescribeTags", &tags(&all));
        for (_, _, _, targets) in self.groups.iter().filter(|(_, _, owner, _)| owner.is_some()) {
            script.answer("DescribeTargetHealth", &health(targets));
        }
    }

    async fn observe(&self) -> TrafficState {
        let script = Script::default();
        self.read(&script);
        let state = ElbSwitch::new(script.config()).observe(&cx("observe"), &self.route.parse().unwrap()).await;
        script.finish();
        state.unwrap()
    }

    async fn version(&self) -> RouteVersion {
        self.observe().await.version
    }

    /// The claim of a call on this route.
    async fn claimed(&self, purpose: &str) -> String {
        format!("1:{}:{}", cx(purpose).key.as_str(), self.version().await)
    }

    /// A claim of this call that nobody contests.
    async fn take(&self, script: &Script, purpose: &str) {
        let claim = self.claimed(purpose).await;
        script.answer("AddTags", "");
        script.answer("DescribeTags", &tags(&[(&self.route, vec![("immutable:route-version", &claim)])]));
    }
}

fn tags(all: &[(&str, Vec<(&str, &str)>)]) -> String {
    let mut text = String::new();
    for (arn, pairs) in all {
        let tag = |(key, value): &(&str, &str)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
        let pairs: String = pairs.iter().map(tag).collect::<Vec<_>>().concat();
        write!(text, "<member><ResourceArn>{arn}</ResourceArn><Tags>{pairs}</Tags></member>").unwrap();
    }
    format!("<TagDescriptions>{text}</TagDescriptions>")
}

fn health(targets: &[(&str, &str)]) -> String {
    let target = |(id, state): &(&str, &str)| {
        let target = format!("<Target><Id>{id}</Id><Port>80</Port></Target>");
        format!("<member>{target}<TargetHealth><State>{state}</State></TargetHealth></member>")
    };
    let targets: String = targets.iter().map(target).collect::<Vec<_>>().concat();
    format!("<TargetHealthDescriptions>{targets}</TargetHealthDescriptions>")
}

fn cx(purpose: &str) -> OpContext {
    OpContext { rollout: Some("rollout-1".parse().unwrap()), ..OpContext::standalone(purpose) }
}

fn assignment(split: &[(&str, u16)], members: &[(&str, &str)]) -> Assignment {
    let weight = |(name, points): &(&str, u16)| (fleet(name), Weight::basis_points(*points).unwrap());
    let member = |(of, instance): &(&str, &str)| MemberTarget {
        instance: instance.parse().unwrap(),
        fleet: fleet(of),
        endpoint: Endpoint::new("10.0.0.1", 80).unwrap(),
    };
    Assignment { split: Split::new(split.iter().map(weight)).unwrap(), members: members.iter().map(member).collect() }
}

async fn apply(
    script: &Script,
    world: &World<'_>,
    wanted: &Assignment,
    expected: &RouteVersion,
) -> (Result<Progress<()>, ProviderError>, Vec<Sent>) {
    let switch = ElbSwitch::new(script.config());
    let answer = switch.apply(&cx("apply"), &world.route.parse().unwrap(), wanted, expected).await;
    (answer, script.finish())
}

fn actions(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.action.as_str()).collect()
}

fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn is_pending(answer: &Result<Progress<()>, ProviderError>) -> bool {
    matches!(answer, Ok(Progress::Pending { .. }))
}
