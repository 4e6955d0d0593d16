//! Names, and the requests by which the groups of a fleet are found and removed.

use super::*;
use crate::testing::Script;

/// A listener for each test: a process changes a route with one call at a time.
fn route() -> String {
    let test = std::thread::current().name().unwrap_or_default().replace(':', "-");
    format!("arn:aws:elasticloadbalancing:eu-central-1:1:listener/app/{test}/50dc/f2f7")
}

fn fleet() -> FleetId {
    "web-0123456789ab".parse().unwrap()
}

fn service() -> ServiceName {
    "web".parse().unwrap()
}

fn groups(names: &[String], next: &str) -> String {
    let member = |name: &String| {
        format!("<member><TargetGroupArn>arn:{name}</TargetGroupArn><TargetGroupName>{name}</TargetGroupName></member>")
    };
    let members = names.iter().map(member).collect::<Vec<_>>().concat();
    format!("<TargetGroups>{members}</TargetGroups>{next}")
}

fn tags(arns: &[String], pairs: &[(&str, &str)]) -> String {
    let tag = |(key, value): &(&str, &str)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>");
    let pairs = pairs.iter().map(tag).collect::<Vec<_>>().concat();
    let member = |arn: &String| format!("<member><ResourceArn>{arn}</ResourceArn><Tags>{pairs}</Tags></member>");
    format!("<TagDescriptions>{}</TagDescriptions>", arns.iter().map(member).collect::<Vec<_>>().concat())
}

/// The answers by which one group of the fleet is found.
fn found(script: &Script, of: &str) -> String {
    let name = name(&route(), &fleet());
    script.answer("DescribeTargetGroups", &groups(std::slice::from_ref(&name), ""));
    let pairs = [(tags::FLEET, fleet().to_string()), (tags::SERVICE, of.to_owned()), (tags::ROUTE, route())];
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
    script.answer("DescribeTags", &tags(&[format!("arn:{name}")], &pairs));
    format!("arn:{name}")
}

/// The listener, with these groups and weights.
fn listener(script: &Script, forwards: &[(&str, u32)]) {
    let member = |(arn, weight): &(&str, u32)| {
        format!("<member><TargetGroupArn>{arn}</TargetGroupArn><Weight>{weight}</Weight></member>")
    };
    let members = forwards.iter().map(member).collect::<Vec<_>>().concat();
    let action = format!(
        "<member><Type>forward</Type><ForwardConfig><TargetGroups>{members}</TargetGroups></ForwardConfig></member>"
    );
    let listener = format!("<member><DefaultActions>{action}</DefaultActions></member>");
    script.answer("DescribeListeners", &format!("<Listeners>{listener}</Listeners>"));
    script.answer("DescribeTags", "");
}

#[test]
fn a_group_has_a_name_that_is_allowed_and_follows_from_fleet_and_route() {
    let name = name(&route(), &fleet());
    assert!(name.len() <= 32 && name.starts_with(&prefix(&fleet())), "{name}");
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
    assert_eq!(name, super::name(&route(), &fleet()));
    assert_ne!(name, super::name(&format!("{}3", route()), &fleet()));
    assert_ne!(name, super::name(&route(), &"web-0123456789ac".parse().unwrap()));
}

#[test]
fn the_service_is_read_from_the_name_of_its_fleet() {
    let release = Fingerprint::of("a release").to_string().parse().unwrap();
    let service: ServiceName = "web-shop".parse().unwrap();
    assert_eq!(service_of(&FleetId::of(&service, &release)), Some(service));
    assert_eq!(service_of(&"UPPER".parse().unwrap()), None);
}

#[tokio::test]
async fn the_groups_of_a_fleet_are_found_on_all_pages_and_known_by_their_tags() {
    let script = Script::default();
    let ours: Vec<String> = (0..25).map(|n| format!("{}{n}", prefix(&fleet()))).collect();
    let others = ["web".to_owned(), "im-000000000000-0".to_owned()];
    script.answer("DescribeTargetGroups", &groups(&[&others, &ours[..3]].concat(), "<NextMarker>more</NextMarker>"));
    script.answer("DescribeTargetGroups", &groups(&ours[3..], ""));
    let arns: Vec<String> = ours.iter().map(|name| format!("arn:{name}")).collect();
    let fleet = fleet();
    let route = route();
    let mine = [(tags::FLEET, fleet.as_str()), (tags::ROUTE, route.as_str())];
    script.answer("DescribeTags", &tags(&arns[..20], &mine));
    // Of the same name, and somebody else's.
    script.answer("DescribeTags", &tags(&arns[20..], &[(tags::FLEET, "another")]));
    let found = of_fleet(&script.clients(), REMOVE, &fleet).await.unwrap();
    assert_eq!(found.iter().map(|group| group.arn.clone()).collect::<Vec<_>>(), arns[..20]);
    assert!(found.iter().all(|group| group.route == route));
    let sent = script.finish();
    assert_eq!(sent[1].get("Marker"), Some("more"));
    assert_eq!([sent[2].parameters.len(), sent[3].parameters.len()], [20, 5]);
}

#[tokio::test]
async fn a_group_leaves_its_route_before_it_is_removed() {
    let script = Script::default();
    let arn = found(&script, "web");
    listener(&script, &[("arn:web", 1), (&arn, 0)]);
    let clients = script.clients();
    // The tag does not show yet what was written into it.
    script.answer("AddTags", "").answer("DescribeTags", "");
    let error = remove(&clients, &service(), &fleet()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let claim =
        script.finish().into_iter().find_map(|sent| sent.parameters.get("Tags.member.1.Value").cloned()).unwrap();
    found(&script, "web");
    listener(&script, &[("arn:web", 1), (&arn, 0)]);
    script.answer("AddTags", "");
    script.answer("DescribeTags", &tags(&[route()], &[(tags::ROUTE_VERSION, &claim)]));
    script.answer("ModifyListener", "").answer("DeleteTargetGroup", "");
    assert_eq!(remove(&clients, &service(), &fleet()).await.unwrap(), Progress::Done(()));
    let sent = script.finish();
    let groups = sent.iter().find(|sent| sent.action == "ModifyListener").unwrap();
    assert_eq!(groups.count(".Weight"), 1);
    assert_eq!(sent.last().unwrap().get("TargetGroupArn"), Some(&*arn));
}

#[tokio::test]
async fn a_group_with_traffic_stays() {
    let script = Script::default();
    let arn = found(&script, "web");
    listener(&script, &[("arn:web", 0), (&arn, 1)]);
    let error = remove(&script.clients(), &service(), &fleet()).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    script.finish();
}

#[tokio::test]
async fn a_group_whose_route_is_gone_is_removed_and_that_of_another_service_is_not() {
    let script = Script::default();
    found(&script, "web");
    script.refuse("DescribeListeners", "ListenerNotFound").answer("DeleteTargetGroup", "");
    assert_eq!(remove(&script.clients(), &service(), &fleet()).await.unwrap(), Progress::Done(()));
    script.finish();
    found(&script, "shop");
    assert_eq!(remove(&script.clients(), &service(), &fleet()).await.unwrap(), Progress::Done(()));
    script.finish();
}
