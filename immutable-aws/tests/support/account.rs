//! What a team on AWS has before it rolls anything out: a network, a load balancer with a listener, AMIs.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ForwardActionConfig, PathPatternConditionConfig, ProtocolEnum, RuleCondition,
    TargetGroupTuple,
};
use immutable_aws::{Clients, Config, ConfigBuilder};
use immutable_core::model::RouteId;

use super::{Moto, Options, Proxy};

pub(crate) const REGION: &str = "eu-central-1";
/// What requests are signed with. Whoever finds it in a text has found a leak.
pub(crate) const SECRET: &str = "hunter2-secret-access-key";
const KEY_ID: &str = "AKIAHUNTER2HUNTER2XX";

/// An account of its own, with what has to be there.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) proxy: Proxy,
    /// Made once: in a build for tests, the HTTPS part of a client takes a second to make.
    clients: Clients,
    /// Clients that nothing goes wrong for and that nobody counts, for what the test does itself.
    pub(crate) own: Clients,
    pub(crate) subnets: Vec<String>,
    pub(crate) security_group: String,
    pub(crate) images: [String; 2],
    pub(crate) target_group: String,
    /// A listener, and a rule of it.
    pub(crate) routes: [RouteId; 2],
}

/// Clients for this endpoint.
pub(crate) fn clients(proxy: &Proxy, credentials: Credentials) -> Clients {
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .endpoint_url(proxy.endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    Clients::new(&sdk)
}

/// Credentials that moto does not check, unless it is told to.
pub(crate) fn credentials() -> Credentials {
    Credentials::new(KEY_ID, SECRET, None, None, "test")
}

impl Account {
    pub(crate) async fn open(moto: &Moto, options: Options) -> Self {
        let id = moto.account();
        let own = clients(&Proxy::plain(moto, &id).await, credentials());
        let (vpc, subnets, security_group) = network(&own).await;
        let (target_group, routes) = balancer(&own, &vpc, &subnets).await;
        let images = [image(&own, "old").await, image(&own, "new").await];
        let proxy = Proxy::start(moto, &id, options).await;
        let clients = clients(&proxy, credentials());
        Self { id, proxy, clients, own, subnets, security_group, images, target_group, routes }
    }

    /// The clients of the provider under test.
    pub(crate) fn clients(&self) -> Clients {
        self.clients.clone()
    }

    /// What the provider under test is told.
    pub(crate) fn config(&self) -> ConfigBuilder {
        self.config_with(self.clients())
    }

    pub(crate) fn config_with(&self, clients: Clients) -> ConfigBuilder {
        Config::builder(clients)
            .subnets(self.subnets.clone())
            .security_groups([self.security_group.clone()])
            .instance_types(["m7i.large"])
            .port(8080)
            .routes(self.routes.clone())
    }
}

/// A VPC with a subnet in each of two zones, and a security group.
async fn network(own: &Clients) -> (String, Vec<String>, String) {
    let vpc = own.ec2.create_vpc().cidr_block("10.1.0.0/16").send().await.unwrap();
    let vpc = vpc.vpc().and_then(|vpc| vpc.vpc_id()).unwrap().to_owned();
    let mut subnets = Vec::new();
    for (zone, block) in [("a", "10.1.0.0/20"), ("b", "10.1.16.0/20")] {
        let subnet =
            own.ec2.create_subnet().vpc_id(&vpc).cidr_block(block).availability_zone(format!("{REGION}{zone}"));
        let subnet = subnet.send().await.unwrap();
        subnets.push(subnet.subnet().and_then(|subnet| subnet.subnet_id()).unwrap().to_owned());
    }
    let group = own.ec2.create_security_group().vpc_id(&vpc).group_name("web").description("web").send().await.unwrap();
    (vpc, subnets, group.group_id().unwrap().to_owned())
}

/// A load balancer whose listener and whose rule forward to the target group of the team.
async fn balancer(own: &Clients, vpc: &str, subnets: &[String]) -> (String, [RouteId; 2]) {
    let elb = &own.elb;
    let balancer = elb.create_load_balancer().name("web").set_subnets(Some(subnets.to_vec())).send().await.unwrap();
    let balancer = balancer.load_balancers()[0].load_balancer_arn().unwrap().to_owned();
    let group = elb.create_target_group().name("web").protocol(ProtocolEnum::Http).port(8080).vpc_id(vpc);
    let group = group.health_check_path("/health").health_check_interval_seconds(7).send().await.unwrap();
    let group = group.target_groups()[0].target_group_arn().unwrap().to_owned();
    let to = TargetGroupTuple::builder().target_group_arn(&group).weight(1).build();
    let forward = Action::builder().r#type(ActionTypeEnum::Forward).order(1);
    let forward = forward.forward_config(ForwardActionConfig::builder().target_groups(to).build()).build();
    let listener = elb.create_listener().load_balancer_arn(&balancer).protocol(ProtocolEnum::Http).port(80);
    let listener = listener.default_actions(forward.clone()).send().await.unwrap();
    let listener = listener.listeners()[0].listener_arn().unwrap().to_owned();
    let path = PathPatternConditionConfig::builder().values("/other/*").build();
    let path = RuleCondition::builder().field("path-pattern").path_pattern_config(path).build();
    let rule =
        elb.create_rule().listener_arn(&listener).priority(1).conditions(path).actions(forward).send().await.unwrap();
    let rule = rule.rules()[0].rule_arn().unwrap().to_owned();
    (group, [RouteId::new(listener).unwrap(), RouteId::new(rule).unwrap()])
}

async fn image(own: &Clients, name: &str) -> String {
    let image = own.ec2.register_image().name(name).root_device_name("/dev/sda1").send().await.unwrap();
    image.image_id().unwrap().to_owned()
}
