//! Traffic that nobody has to send: every target group that was made for a fleet has some, in the eyes of `CloudWatch`.

use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum};
use immutable_aws::Clients;

/// Until the runtime of the test ends.
pub(crate) async fn run(own: Clients) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Ok(balancers) = own.elb.describe_load_balancers().send().await else { return };
        let Ok(groups) = own.elb.describe_target_groups().send().await else { return };
        let name = |arn: Option<&str>| arn.and_then(|arn| arn.rsplit(':').next()).unwrap_or_default().to_owned();
        let balancer = name(balancers.load_balancers()[0].load_balancer_arn()).replacen("loadbalancer/", "", 1);
        let of_fleets = |group: &str| group.starts_with("targetgroup/im-");
        let groups = groups.target_groups().iter().map(|group| name(group.target_group_arn()));
        for group in groups.filter(|group| of_fleets(group)) {
            let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
            let seen = MetricDatum::builder().timestamp(DateTime::from(SystemTime::now()));
            let seen =
                seen.dimensions(dimension("LoadBalancer", &balancer)).dimensions(dimension("TargetGroup", &group));
            let data = [("RequestCount", 5.0), ("HTTPCode_Target_5XX_Count", 1.0)]
                .map(|(name, value)| seen.clone().metric_name(name).value(value).build());
            let put = own.cloudwatch.put_metric_data().namespace("AWS/ApplicationELB");
            put.set_metric_data(Some(data.to_vec())).send().await.unwrap();
        }
    }
}
