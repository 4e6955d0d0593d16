//! What stays as it was, what is made like something else, and what is refused.

use super::*;

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
