//! What a fleet has left on routes goes with it.

use std::sync::Arc;
use std::time::Duration;

use immutable_azure::{Config, RoleUse, custom_role};
use immutable_azure_fake::Options;
use immutable_core::model::{FleetSpec, Lifecycle, RouteId, RouteVersion, Split};
use immutable_core::provider::{
    Assignment, Effect, ErrorKind, MemberTarget, OpContext, Progress, ProviderError, Provisioner as _, TrafficSwitch,
};
use serde_json::{Value, json};

use crate::stand::Stand;
use crate::support::{self, GATEWAY, Group, LOAD_BALANCER, PROFILE, Traffic};

const ALL: [Traffic; 4] = [Traffic::LoadBalancer, Traffic::GatewayPool, Traffic::RoutingRule, Traffic::Profile];

/// Two fleets, and a route that has moved from the old one, which has ended since, to the first of two members of the new one.
struct Moved {
    stand: Stand,
    switch: Arc<dyn TrafficSwitch>,
    route: RouteId,
    old: FleetSpec,
    new: FleetSpec,
    members: Vec<MemberTarget>,
}

/// The write of the part of a route that says who is there.
fn write(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::LoadBalancer | Traffic::Profile => "PUT Microsoft.Network/loadBalancers/backendAddressPools",
        Traffic::GatewayPool | Traffic::RoutingRule => "PUT Microsoft.Network/applicationGateways",
    }
}

impl Moved {
    async fn open(traffic: Traffic) -> Self {
        let mut config: Option<Config> = None;
        let stand = Stand::with(Options::default(), |builder| builder);
        let fake = stand.fake();
        support::place_balancers(fake);
        let mut routes = vec![traffic.route(fake, "web")];
        if traffic == Traffic::Profile {
            let pool = |name: &str| Traffic::LoadBalancer.route(fake, name);
            routes.extend(["blue", "green"].map(pool));
        }
        let route = routes[0].clone();
        let stand = stand.restarted(|builder| {
            let builder = builder.health_path("/health").routes(routes).drain_time(Duration::from_secs(1));
            config = builder.clone().build().ok();
            builder
        });
        let switch = traffic.switch(stand.fake(), &config.unwrap());
        let (old, new) = (stand.spec(1), Group::spec(stand.group.release("2.0.0"), 2));
        let mut all = Vec::new();
        for spec in [&old, &new] {
            stand.ensure(spec).await.unwrap();
            all.push(members(&stand, spec).await);
        }
        let members = all.pop().unwrap();
        let moved = Self { stand, switch, route, old, new, members };
        moved.apply("open", &to(&moved.old, &all[0])).await;
        moved.apply("move", &to(&moved.new, &moved.members[..1])).await;
        moved
    }

    /// Ends the instances of the old fleet.
    async fn end(&self) {
        let running = self.stand.running(&self.old).await;
        self.stand.retire(&self.old, &running).await.unwrap();
        self.stand.fake().skip(Duration::from_secs(1));
    }

    async fn version(&self) -> RouteVersion {
        self.switch.observe(&OpContext::standalone("look"), &self.route).await.unwrap().version
    }

    async fn once(&self, key: &str, wanted: &Assignment, seen: &RouteVersion) -> Result<Progress<()>, ProviderError> {
        self.switch.apply(&OpContext::standalone(key), &self.route, wanted, seen).await
    }

    async fn go_on(&self, key: &str, wanted: &Assignment, seen: &RouteVersion) {
        until_done(&self.stand, async || self.once(key, wanted, seen).await).await.unwrap();
    }

    async fn apply(&self, key: &str, wanted: &Assignment) {
        let seen = self.version().await;
        self.go_on(key, wanted, &seen).await;
    }

    async fn remove(&self, spec: &FleetSpec) -> Result<(), ProviderError> {
        let cx = OpContext::standalone("remove");
        until_done(&self.stand, async || self.stand.fleets.remove(&cx, &spec.service, &spec.id).await).await
    }

    /// Whether something on the routes names a fleet.
    fn is_named(&self, spec: &FleetSpec) -> bool {
        let all = [LOAD_BALANCER, GATEWAY, PROFILE].map(|path| self.stand.fake().get(path).unwrap().to_string());
        all.iter().any(|text| text.contains(spec.id.as_str()))
    }

    /// What the rules of the gateway say.
    fn rules(&self) -> Vec<Value> {
        let gateway = self.stand.fake().get(GATEWAY).unwrap();
        let rules = gateway["properties"]["requestRoutingRules"].as_array().unwrap();
        rules.iter().map(|rule| rule["properties"].clone()).collect()
    }

    /// Whose machine answers a request.
    fn answering(&self) -> String {
        self.stand.fake().request(self.route.as_str()).unwrap().to_ascii_lowercase()
    }
}

async fn members(stand: &Stand, spec: &FleetSpec) -> Vec<MemberTarget> {
    let seen = stand.fleet(spec).await.unwrap();
    let running = seen.instances.into_iter().filter(|one| one.lifecycle == Lifecycle::Running);
    let target = |(instance, endpoint)| MemberTarget { instance, fleet: spec.id.clone(), endpoint };
    running.filter_map(|one| Some(target((one.id, one.endpoint?)))).collect()
}

fn to(spec: &FleetSpec, members: &[MemberTarget]) -> Assignment {
    Assignment { split: Split::all_to(spec.id.clone()), members: members.to_vec() }
}

async fn until_done(
    stand: &Stand,
    mut call: impl AsyncFnMut() -> Result<Progress<()>, ProviderError>,
) -> Result<(), ProviderError> {
    let mut waits = String::new();
    for _ in 0..400 {
        match call().await? {
            Progress::Done(()) => return Ok(()),
            Progress::Pending { note, .. } => waits = note,
        }
        stand.fake().skip(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it is never done: {waits}");
}

#[tokio::test]
async fn nothing_of_a_removed_fleet_is_left_on_the_routes_and_all_else_stays() {
    for traffic in ALL {
        let moved = Moved::open(traffic).await;
        moved.end().await;
        assert!(moved.is_named(&moved.old), "{traffic:?}: it is left until something is removed");
        let version = moved.version().await;
        let rules = moved.rules();
        moved.stand.fake().lose_next(write(traffic));
        let mut lost = 0;
        while let Err(error) = moved.remove(&moved.old).await {
            assert_eq!((error.kind(), error.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{error}");
            assert!(moved.stand.set(&moved.old).is_some(), "the record of the fleet is the last of it");
            lost += 1;
        }
        assert_eq!(lost, 1, "{traffic:?}");
        assert_eq!((moved.is_named(&moved.old), moved.stand.set(&moved.old)), (false, None), "{traffic:?}");
        assert!(moved.is_named(&moved.new) && moved.answering().contains(moved.new.id.as_str()), "{traffic:?}");
        assert_eq!(moved.rules(), rules);
        // Where nothing but members tells of changes, there is another version.
        assert_eq!(moved.version().await == version, traffic != Traffic::LoadBalancer, "{traffic:?}");
        moved.apply("grow", &to(&moved.new, &moved.members)).await;
    }
}

#[tokio::test]
async fn a_fleet_that_is_still_a_member_is_not_removed() {
    for traffic in ALL {
        let moved = Moved::open(traffic).await;
        // Its machines end behind everybody's back.
        let running = moved.stand.running(&moved.new).await;
        moved.stand.retire(&moved.new, &running).await.unwrap();
        moved.stand.fake().skip(Duration::from_secs(1));
        let before = [LOAD_BALANCER, GATEWAY, PROFILE].map(|path| moved.stand.fake().get(path));
        let error = moved.remove(&moved.new).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{traffic:?}: {error}");
        assert!(error.to_string().contains("first"), "{error}");
        let after = [LOAD_BALANCER, GATEWAY, PROFILE].map(|path| moved.stand.fake().get(path));
        assert!(before == after && moved.stand.set(&moved.new).is_some(), "{traffic:?}");
    }
}

#[tokio::test]
async fn a_call_that_is_under_way_on_the_route_goes_on() {
    for traffic in ALL {
        let moved = Moved::open(traffic).await;
        moved.end().await;
        let (wanted, seen) = (to(&moved.new, &moved.members), moved.version().await);
        for _ in 0..2 {
            moved.once("grow", &wanted, &seen).await.unwrap();
            moved.stand.fake().skip(Duration::from_secs(1));
        }
        moved.remove(&moved.old).await.unwrap();
        assert!(!moved.is_named(&moved.old), "{traffic:?}");
        moved.go_on("grow", &wanted, &seen).await;
        let late = moved.once("late", &wanted, &seen).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Conflict, "{traffic:?}: {late}");
    }
}

#[tokio::test]
async fn no_version_comes_back_when_what_made_it_was_removed() {
    for traffic in ALL {
        let moved = Moved::open(traffic).await;
        let mut versions = vec![moved.version().await];
        for round in 0..2 {
            let both = |spec: &FleetSpec, guests: &[MemberTarget]| {
                let all = [&moved.members[..1], guests].concat();
                Assignment { members: all, ..to(spec, &[]) }
            };
            moved.stand.ensure(&moved.old).await.unwrap();
            let guests = members(&moved.stand, &moved.old).await;
            moved.apply(&format!("in {round}"), &both(&moved.new, &guests)).await;
            moved.apply(&format!("out {round}"), &both(&moved.new, &[])).await;
            moved.end().await;
            moved.remove(&moved.old).await.unwrap();
            let version = moved.version().await;
            assert!(!versions.contains(&version), "{traffic:?}: {version} was there before");
            versions.push(version);
        }
    }
}

#[tokio::test]
async fn routes_that_are_gone_have_nothing_and_those_that_cannot_be_seen_stop_the_removal() {
    for (traffic, path) in [(Traffic::LoadBalancer, LOAD_BALANCER), (Traffic::GatewayPool, GATEWAY)] {
        let moved = Moved::open(traffic).await;
        moved.end().await;
        let fake = moved.stand.fake();
        fake.throttle_next(&format!("GET {}", path.trim_end_matches("/web")), 1);
        let error = moved.remove(&moved.old).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::Throttled, Effect::None), "{error}");
        assert!(moved.stand.set(&moved.old).is_some());
        fake.remove(path).unwrap();
        moved.remove(&moved.old).await.unwrap();
        assert_eq!(moved.stand.set(&moved.old), None, "{traffic:?}");
    }
    // A rule that was removed by hand: its pools are still ours.
    let moved = Moved::open(Traffic::RoutingRule).await;
    moved.end().await;
    moved.stand.fake().change(GATEWAY, |gateway| {
        let rules = gateway["properties"]["requestRoutingRules"].as_array_mut().unwrap();
        rules.retain(|rule| rule["name"] != "web");
    });
    moved.remove(&moved.old).await.unwrap();
    assert!(!moved.is_named(&moved.old));
}

#[tokio::test]
async fn what_was_taken_out_of_the_pool_by_hand_is_no_member() {
    let moved = Moved::open(Traffic::GatewayPool).await;
    let running = moved.stand.running(&moved.new).await;
    moved.stand.retire(&moved.new, &running).await.unwrap();
    moved.stand.fake().change(GATEWAY, |gateway| {
        let pools = gateway["properties"]["backendAddressPools"].as_array_mut().unwrap();
        let web = pools.iter_mut().find(|pool| pool["name"] == "web").unwrap();
        web["properties"]["backendAddresses"] = json!([]);
    });
    moved.stand.fake().skip(Duration::from_secs(1));
    moved.remove(&moved.new).await.unwrap();
    assert!(!moved.is_named(&moved.new));
}

#[tokio::test]
async fn it_takes_the_permissions_of_a_change_of_the_route() {
    for (traffic, needed) in [
        (Traffic::LoadBalancer, "Microsoft.Network/loadBalancers/read"),
        (Traffic::LoadBalancer, "Microsoft.Network/loadBalancers/backendAddressPools/write"),
        (Traffic::LoadBalancer, "Microsoft.Network/virtualNetworks/joinLoadBalancer/action"),
        (Traffic::GatewayPool, "Microsoft.Network/applicationGateways/read"),
        (Traffic::GatewayPool, "Microsoft.Network/applicationGateways/write"),
        (Traffic::RoutingRule, "Microsoft.Network/publicIPAddresses/join/action"),
    ] {
        let moved = Moved::open(traffic).await;
        moved.end().await;
        let role = custom_role("test", ["/"], RoleUse::ALL);
        let role: Value = serde_json::from_str(&role).unwrap();
        let all = role["Actions"].as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned());
        let allow = |actions: Vec<String>| {
            moved.stand.fake().set(|options| options.actions = Some(actions.into_iter().collect()));
        };
        let all: Vec<String> = all.collect();
        allow(all.iter().filter(|action| *action != needed).cloned().collect());
        let error = moved.remove(&moved.old).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "without {needed}: {error}");
        assert!(error.to_string().contains(needed), "{error}");
        allow(all);
        moved.remove(&moved.old).await.unwrap();
    }
}
