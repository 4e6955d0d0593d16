//! Each request that is sent for a route, against answers as AWS gives them.

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

#[tokio::test]
async fn a_login_before_the_forward_its_order_and_stickiness_are_kept_and_nothing_else_is_said() {
    let login = "<member><Type>authenticate-oidc</Type><Order>1</Order><AuthenticateOidcConfig><Issuer>https://id</Issuer>\
        <AuthorizationEndpoint>https://id/a</AuthorizationEndpoint><TokenEndpoint>https://id/t</TokenEndpoint>\
        <UserInfoEndpoint>https://id/u</UserInfoEndpoint><ClientId>web</ClientId><AuthenticationRequestExtraParams><entry><key>a</key><value>1</value></entry>\
        <entry><key>b</key><value>2</value></entry></AuthenticationRequestExtraParams></AuthenticateOidcConfig></member>\
        <member><Type>forward</Type><Order>2</Order><ForwardConfig><TargetGroups>";
    let sticky = "</TargetGroups><TargetGroupStickinessConfig><Enabled>true</Enabled><DurationSeconds>600</DurationSeconds>\
        </TargetGroupStickinessConfig></ForwardConfig></member>";
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World { route: RULE.to_owned(), around: (login, sticky), ..World::new(groups) };
    let script = Script::default();
    let version = world.version().await;
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyRule", "");
    let (answer, sent) = apply(&script, &world, &assignment(&[("new", 10_000)], &[("new", "i-1")]), &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let (one, two) = ("Actions.member.1", "Actions.member.2");
    let oidc = format!("{one}.AuthenticateOidcConfig");
    let forward = format!("{two}.ForwardConfig");
    let mut written = sent.last().unwrap().parameters.clone();
    // In either order.
    let extra = format!("{oidc}.AuthenticationRequestExtraParams");
    let extras: BTreeMap<_, _> = (1..=2)
        .map(|n| ["key", "value"].map(|part| written.remove(&format!("{extra}.entry.{n}.{part}")).unwrap()))
        .map(|[key, value]| (key, value))
        .collect();
    assert_eq!(extras, parameters(&[("a", "1"), ("b", "2")]));
    let expected = parameters(&[
        ("RuleArn", RULE),
        (&format!("{one}.Type"), "authenticate-oidc"),
        (&format!("{one}.Order"), "1"),
        (&format!("{oidc}.Issuer"), "https://id"),
        (&format!("{oidc}.AuthorizationEndpoint"), "https://id/a"),
        (&format!("{oidc}.TokenEndpoint"), "https://id/t"),
        (&format!("{oidc}.UserInfoEndpoint"), "https://id/u"),
        (&format!("{oidc}.ClientId"), "web"),
        (&format!("{oidc}.UseExistingClientSecret"), "true"),
        (&format!("{two}.Type"), "forward"),
        (&format!("{two}.Order"), "2"),
        (&format!("{forward}.TargetGroups.member.1.TargetGroupArn"), ORIGINAL),
        (&format!("{forward}.TargetGroups.member.1.Weight"), "0"),
        (&format!("{forward}.TargetGroups.member.2.TargetGroupArn"), &new),
        (&format!("{forward}.TargetGroups.member.2.Weight"), "999"),
        (&format!("{forward}.TargetGroupStickinessConfig.Enabled"), "true"),
        (&format!("{forward}.TargetGroupStickinessConfig.DurationSeconds"), "600"),
    ]);
    assert_eq!(written, expected);
}

#[tokio::test]
async fn the_parameters_of_a_login_have_no_order_in_the_version() {
    let login = "<member><Type>authenticate-oidc</Type><Order>1</Order><AuthenticateOidcConfig>\
        <AuthenticationRequestExtraParams>";
    let entry = |n: u32| format!("<entry><key>k{n}</key><value>{n}</value></entry>");
    let rest = "</AuthenticationRequestExtraParams></AuthenticateOidcConfig></member>";
    let before = format!("{login}{}{rest}{}", (0..20).map(entry).collect::<Vec<_>>().concat(), FORWARD.0);
    let world = World { around: (&before, FORWARD.1), ..World::new(&[(ORIGINAL, 1, None, &[])]) };
    let first = world.version().await;
    for _ in 0..5 {
        assert_eq!(world.version().await, first);
    }
}

#[tokio::test]
async fn a_listener_of_a_network_balancer_that_names_its_group_in_one_place_gets_a_list() {
    let alone = format!("<member><Type>forward</Type><TargetGroupArn>{ORIGINAL}</TargetGroupArn></member>");
    let world = World { route: NETWORK.to_owned(), around: (&alone, ""), groups: &[], claim: None };
    let script = Script::default();
    // It has no group in its list, and one that is asked for its tags all the same.
    let read = |script: &Script| {
        world.told(script);
        script.answer("DescribeTags", &tags(&[(ORIGINAL, vec![]), (NETWORK, vec![])]));
    };
    read(&script);
    let switch = ElbSwitch::new(script.config());
    let state = switch.observe(&cx("observe"), &NETWORK.parse().unwrap()).await.unwrap();
    assert!(state.split.is_closed() && state.members.is_empty());
    script.finish();
    read(&script);
    let claim = format!("1:{}:{}", cx("apply").key.as_str(), state.version);
    script.answer("AddTags", "");
    script.answer("DescribeTags", &tags(&[(NETWORK, vec![("immutable:route-version", &claim)])]));
    let found = "<member><TargetGroupArn>g</TargetGroupArn><Protocol>TCP</Protocol><Port>80</Port>\
        <TargetType>instance</TargetType><VpcId>vpc-1</VpcId><HealthCheckIntervalSeconds>7</HealthCheckIntervalSeconds></member>";
    script.answer("DescribeTargetGroups", &format!("<TargetGroups>{found}</TargetGroups>"));
    script.refuse("DescribeTargetGroups", "TargetGroupNotFound");
    let new = group("new");
    let made = format!("<member><TargetGroupArn>{new}</TargetGroupArn></member>");
    script.answer("CreateTargetGroup", &format!("<TargetGroups>{made}</TargetGroups>"));
    let attribute = |key: &str, value: &str| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    let delay = |seconds: &str| attribute("deregistration_delay.timeout_seconds", seconds);
    let wanted = [delay("30"), attribute("stickiness.enabled", "false"), attribute("cookie", "")].concat();
    script.answer("DescribeTargetGroupAttributes", &format!("<Attributes>{wanted}</Attributes>"));
    let fresh = [delay("300"), attribute("stickiness.enabled", "false")].concat();
    script.answer("DescribeTargetGroupAttributes", &format!("<Attributes>{fresh}</Attributes>"));
    script.answer("ModifyTargetGroupAttributes", "").answer("RegisterTargets", "");
    world.told(&script);
    script.answer("ModifyListener", "");
    let wanted = assignment(&[("web-new", 10_000)], &[("web-new", "i-1")]);
    let (answer, sent) = apply(&script, &world, &wanted, &state.version).await;
    // The members have not been looked at yet: the group has its place, and the original has the traffic.
    assert!(is_pending(&answer), "{answer:?}");
    let create = sent.iter().find(|sent| sent.action == "CreateTargetGroup").unwrap();
    assert_eq!(create.get("Name"), Some(target_groups::name(NETWORK, &fleet("web-new")).as_str()));
    let like =
        [("Protocol", "TCP"), ("VpcId", "vpc-1"), ("TargetType", "instance"), ("HealthCheckIntervalSeconds", "7")];
    for (name, value) in like {
        assert_eq!(create.get(name), Some(value), "{name}");
    }
    let value = |key: &str| {
        let name =
            create.parameters.iter().find(|(_, value)| *value == key).map(|(name, _)| name.replace(".Key", ".Value"));
        name.and_then(|name| create.get(&name).map(str::to_owned))
    };
    let tagged = ["immutable:service", "immutable:fleet", "immutable:rollout", "immutable:route", "immutable:like"];
    let tagged: Vec<_> = tagged.iter().map(|key| value(key).unwrap()).collect();
    assert_eq!(tagged, ["web", "web-new", "rollout-1", NETWORK, ORIGINAL]);
    let attributes = sent.iter().find(|sent| sent.action == "ModifyTargetGroupAttributes").unwrap();
    // Only what differs, and nothing that is not set.
    assert_eq!((attributes.count(".Key"), attributes.get("Attributes.member.1.Value")), (1, Some("30")));
    let written = format!("{}.ForwardConfig.TargetGroups.member", "DefaultActions.member.1");
    let expected = parameters(&[
        ("ListenerArn", NETWORK),
        ("DefaultActions.member.1.Type", "forward"),
        (&format!("{written}.1.TargetGroupArn"), ORIGINAL),
        (&format!("{written}.1.Weight"), "1"),
        (&format!("{written}.2.TargetGroupArn"), &new),
        (&format!("{written}.2.Weight"), "0"),
    ]);
    assert_eq!(sent.last().unwrap().parameters, expected);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_touched() {
    let six: Vec<String> = (0..6).map(|n| format!("f{n}")).collect();
    let split: Vec<(&str, u16)> =
        six.iter().map(|name| (name.as_str(), if name == "f0" { 5000 } else { 1000 })).collect();
    let to_nothing = "<member><Type>fixed-response</Type></member>";
    let unknown = format!("<member><Type>new-in-2030</Type></member>{}", FORWARD.0);
    let one = assignment(&[("f0", 10_000)], &[]);
    let cases = [
        (FORWARD, assignment(&split, &[]), "more than 5"),
        ((to_nothing, ""), one.clone(), "forwards to nothing"),
        ((&*unknown, FORWARD.1), one, "new-in-2030"),
    ];
    for (around, wanted, why) in cases {
        let groups: &[Told<'_>] = if around.1.is_empty() { &[] } else { &[(ORIGINAL, 1, None, &[])] };
        let mut world = World { around, ..World::new(groups) };
        if groups.is_empty() {
            world.around = (to_nothing, "");
        }
        let version = world.version().await;
        let script = Script::default();
        world.read(&script);
        let (answer, sent) = apply(&script, &world, &wanted, &version).await;
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(actions(&sent).iter().all(|action| action.starts_with("Describe")), "{sent:?}");
    }
}

#[tokio::test]
async fn what_is_no_route_is_not_there() {
    let switch = ElbSwitch::new(Script::default().config());
    for route in
        ["web", "arn:aws:elasticloadbalancing:x:1:loadbalancer/app/web/1", "arn:aws:s3:::listener/app/web", ORIGINAL]
    {
        let error = switch.observe(&cx("observe"), &route.parse().unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None), "{route}: {error}");
    }
    let script = Script::default();
    let rule = format!("<Rules><member><RuleArn>{RULE}</RuleArn><IsDefault>true</IsDefault></member></Rules>");
    script.answer("DescribeRules", &rule).answer("DescribeListeners", "<Listeners></Listeners>");
    let switch = ElbSwitch::new(script.config());
    let default = switch.observe(&cx("observe"), &RULE.parse().unwrap()).await.unwrap_err();
    assert_eq!((default.kind(), default.effect()), (ErrorKind::InvalidRequest, Effect::None), "{default}");
    let gone = switch.observe(&cx("observe"), &listener().parse().unwrap()).await.unwrap_err();
    assert_eq!((gone.kind(), gone.effect()), (ErrorKind::NotFound, Effect::None), "{gone}");
}

#[tokio::test]
async fn members_come_and_go_a_hundred_at_a_time() {
    let (old, new) = (group("old"), group("new"));
    let names = |of: &str| (0..250).map(|n| format!("i-{of}{n}")).collect::<Vec<_>>();
    let (leaving, joining) = (names("a"), names("b"));
    let there: Vec<(&str, &str)> = leaving.iter().map(|id| (id.as_str(), "healthy")).collect();
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&old, 0, Some("old"), &there), (&new, 0, Some("new"), &[])];
    let world = World::new(groups);
    let version = world.version().await;
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    for action in ["RegisterTargets", "DeregisterTargets"] {
        script.answer(action, "").answer(action, "").answer(action, "");
    }
    let members: Vec<_> = joining.iter().map(|id| ("new", id.as_str())).collect();
    let (answer, sent) = apply(&script, &world, &assignment(&[], &members), &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let counts = |action: &str| -> Vec<(usize, String)> {
        let sent = sent.iter().filter(|sent| sent.action == action);
        sent.map(|sent| (sent.count(".Id"), sent.get("TargetGroupArn").unwrap().to_owned())).collect()
    };
    assert_eq!(counts("RegisterTargets"), [100, 100, 50].map(|count| (count, new.clone())));
    assert_eq!(counts("DeregisterTargets"), [100, 100, 50].map(|count| (count, old.clone())));
}

#[tokio::test]
async fn another_version_changes_nothing() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let script = Script::default();
    world.read(&script);
    let wanted = assignment(&[("new", 10_000)], &[("new", "i-1")]);
    let (answer, sent) = apply(&script, &world, &wanted, &"7-a-b".parse().unwrap()).await;
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    assert!(actions(&sent).iter().all(|action| action.starts_with("Describe")), "{sent:?}");
}

#[tokio::test]
async fn whoever_finds_another_name_in_the_tag_goes_no_further() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    let other = world.claimed("somebody else").await;
    script.answer("AddTags", "");
    script.answer("DescribeTags", &tags(&[(&world.route, vec![("immutable:route-version", &other)])]));
    let (answer, sent) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict);
    let ours = world.claimed("apply").await;
    let add = sent.iter().find(|sent| sent.action == "AddTags").unwrap();
    assert_eq!((add.get("ResourceArns.member.1"), add.get("Tags.member.1.Value")), (Some(&*world.route), Some(&*ours)));
}

#[tokio::test]
async fn a_change_by_hand_in_the_meantime_is_not_written_over() {
    let new = group("new");
    let targets: &[(&str, &str)] = &[("i-1", "healthy")];
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), targets)];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    World { groups: &[(ORIGINAL, 7, None, &[]), (&new, 0, Some("new"), targets)], ..world.clone() }.told(&script);
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::Unknown), "{error}");
}

#[tokio::test]
async fn a_lost_answer_may_have_had_an_effect_and_a_lost_look_has_none() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(ORIGINAL, 1, None, &[]), (&new, 0, Some("new"), &[("i-1", "healthy")])];
    let world = World::new(groups);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-1")]));
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.lose("ModifyListener");
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().effect(), Effect::Unknown);
    world.read(&script);
    script.lose("AddTags");
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().effect(), Effect::Unknown);
    script.lose("DescribeListeners");
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().effect(), Effect::None);
}

#[tokio::test]
async fn members_leave_a_group_that_loses_its_traffic_when_the_same_call_comes_again() {
    let (old, new) = (group("old"), group("new"));
    let (out, into) = ([("i-1", "healthy")], [("i-2", "healthy")]);
    let before: &[Told<'_>] =
        &[(ORIGINAL, 0, None, &[]), (&old, 999, Some("old"), &out), (&new, 0, Some("new"), &into)];
    let after: &[Told<'_>] = &[(ORIGINAL, 0, None, &[]), (&old, 0, Some("old"), &out), (&new, 999, Some("new"), &into)];
    let world = World::new(before);
    let (version, wanted) = (world.version().await, assignment(&[("new", 10_000)], &[("new", "i-2")]));
    let script = Script::default();
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyListener", "");
    let (answer, sent) = apply(&script, &world, &wanted, &version).await;
    assert!(is_pending(&answer), "{answer:?}");
    assert_eq!(sent.last().unwrap().action, "ModifyListener");
    // Again: the route has a version of its own by now, and the tag says whose.
    let claim = world.claimed("apply").await;
    let again = World { claim: Some(&claim), ..World::new(after) };
    again.read(&script);
    script.answer("DeregisterTargets", "");
    let (answer, sent) = apply(&script, &again, &wanted, &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let left = sent.last().unwrap();
    assert_eq!((left.get("TargetGroupArn"), left.get("Targets.member.1.Id")), (Some(&*old), Some("i-1")));
    // A third time there is nothing to do.
    let drained: &[Told<'_>] =
        &[(ORIGINAL, 0, None, &[]), (&old, 0, Some("old"), &[("i-1", "draining")]), (&new, 999, Some("new"), &into)];
    World { claim: Some(&claim), ..World::new(drained) }.read(&script);
    let (answer, _) = apply(&script, &again, &wanted, &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    // Somebody moved the traffic by hand in between: that is not to be undone under an old version.
    let by_hand: &[Told<'_>] = &[(ORIGINAL, 5, None, &[]), (&old, 0, Some("old"), &out), (&new, 5, Some("new"), &into)];
    World { claim: Some(&claim), ..World::new(by_hand) }.read(&script);
    let (answer, _) = apply(&script, &again, &wanted, &version).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn traffic_waits_until_one_of_the_new_members_can_take_it() {
    let (old, new) = (group("old"), group("new"));
    let wanted = assignment(&[("new", 10_000)], &[("old", "i-1"), ("new", "i-2")]);
    // When all are bad there is nothing to wait for; the balancer then sends requests to all.
    for (state, waits) in [("initial", true), ("healthy", false), ("unhealthy", false), ("unavailable", false)] {
        let targets = [("i-2", state)];
        let groups: &[Told<'_>] = &[(&old, 999, Some("old"), &[("i-1", "healthy")]), (&new, 0, Some("new"), &targets)];
        let world = World::new(groups);
        let version = world.version().await;
        let script = Script::default();
        world.read(&script);
        if !waits {
            world.take(&script, "apply").await;
            world.told(&script);
            script.answer("ModifyListener", "");
        }
        let (answer, _) = apply(&script, &world, &wanted, &version).await;
        assert_eq!(is_pending(&answer), waits, "{state}: {answer:?}");
    }
}

#[tokio::test]
async fn a_route_that_is_closed_leads_to_where_it_led_before() {
    let new = group("new");
    let groups: &[Told<'_>] = &[(&new, 999, Some("new"), &[])];
    let world = World::new(groups);
    let (version, script) = (world.version().await, Script::default());
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyListener", "");
    let (answer, sent) = apply(&script, &world, &assignment(&[], &[]), &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let told = sent.last().unwrap();
    let group = |n: u32, what: &str| {
        told.get(&format!("DefaultActions.member.1.ForwardConfig.TargetGroups.member.{n}.{what}")).map(str::to_owned)
    };
    assert_eq!((group(1, "TargetGroupArn"), group(1, "Weight")), (Some(new.clone()), Some("0".to_owned())));
    assert_eq!((group(2, "TargetGroupArn"), group(2, "Weight")), (Some(ORIGINAL.to_owned()), Some("1".to_owned())));
}

#[tokio::test]
async fn somebody_elses_traffic_beside_ours_is_seen_and_none_of_it_makes_an_open_route() {
    let new = group("new");
    let targets: &[(&str, &str)] = &[("i-1", "healthy"), ("i-2", "draining")];
    let shared: &[Told<'_>] = &[(ORIGINAL, 30, None, &[]), (&new, 10, Some("new"), targets)];
    let state = World::new(shared).observe().await;
    let split =
        [("web", 7500), ("new", 2500)].map(|(name, points)| (fleet(name), Weight::basis_points(points).unwrap()));
    assert_eq!(state.split, Split::new(split).unwrap());
    let member = |id: &str, health| Member { instance: id.parse().unwrap(), fleet: fleet("new"), health };
    assert_eq!(state.members, [member("i-1", MemberHealth::Healthy), member("i-2", MemberHealth::Draining)]);
    let closed: &[Told<'_>] = &[(ORIGINAL, 30, None, &[]), (&new, 0, Some("new"), targets)];
    let state = World::new(closed).observe().await;
    assert!(state.split.is_closed());
    assert_eq!(state.members.len(), 2);
    // A group of another route is somebody else's here.
    let elsewhere = World { route: RULE.to_owned(), ..World::new(shared) };
    let script = Script::default();
    elsewhere.told(&script);
    let other = listener();
    let of = vec![("immutable:fleet", "new"), ("immutable:route", other.as_str())];
    script.answer("DescribeTags", &tags(&[(ORIGINAL, vec![]), (&new, of)]));
    let switch = ElbSwitch::new(script.config());
    let state = switch.observe(&cx("observe"), &RULE.parse().unwrap()).await.unwrap();
    assert!(state.split.is_closed() && state.members.is_empty());
}

#[tokio::test]
async fn empty_groups_of_nobody_make_room_and_draining_ones_are_waited_for() {
    let names: Vec<String> = (0..5).map(|n| format!("f{n}")).collect();
    let groups: Vec<String> = names.iter().map(|name| group(name)).collect();
    let draining: &[(&str, &str)] = &[("i-9", "draining")];
    let told: Vec<Told<'_>> = (0..5)
        .map(|n| {
            (
                groups[n].as_str(),
                if n == 0 { 999 } else { 0 },
                Some(names[n].as_str()),
                if n == 0 { &[][..] } else { draining },
            )
        })
        .collect();
    let world = World::new(&told);
    let (version, script) = (world.version().await, Script::default());
    world.read(&script);
    let wanted = assignment(&[("f0", 10_000)], &[("f9", "i-1")]);
    let (answer, _) = apply(&script, &world, &wanted, &version).await;
    assert!(is_pending(&answer), "{answer:?}");
    // Two of them are drained.
    let told: Vec<Told<'_>> =
        told.iter().enumerate().map(|(n, one)| (one.0, one.1, one.2, if n < 3 { &[][..] } else { one.3 })).collect();
    let world = World::new(&told);
    let (version, wanted) = (world.version().await, assignment(&[("f0", 10_000)], &[]));
    world.read(&script);
    world.take(&script, "apply").await;
    world.told(&script);
    script.answer("ModifyListener", "");
    let (answer, sent) = apply(&script, &world, &wanted, &version).await;
    assert_eq!(answer.unwrap(), Progress::Done(()));
    let left: Vec<&str> = sent
        .last()
        .unwrap()
        .parameters
        .values()
        .map(String::as_str)
        .filter(|value| value.contains("targetgroup"))
        .collect();
    assert_eq!(left, [&*groups[0], &*groups[3], &*groups[4]]);
}
