//! Cloud Monitoring: what load balancers measured.

use immutable_gcp_fake::{Fake, Options};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::send_to;

/// The first second of a minute.
fn minute(number: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_040 + 60 * number).unwrap()
}

/// A question about four minutes: a metric of `web`, of one kind of load balancer.
fn question(fake: &Fake, metric: &str, more: &str) -> String {
    let filter = format!(
        "metric.type = \"loadbalancing.googleapis.com/{metric}\" AND resource.labels.backend_target_name = \"web\""
    );
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in [
        ("filter", filter.as_str()),
        ("interval.startTime", &minute(0).to_string()),
        ("interval.endTime", &minute(4).to_string()),
        ("aggregation.alignmentPeriod", "60s"),
        ("aggregation.perSeriesAligner", "ALIGN_SUM"),
        ("aggregation.crossSeriesReducer", "REDUCE_SUM"),
        ("view", "FULL"),
    ] {
        query.append_pair(name, value);
    }
    format!("/v3/projects/{}/timeSeries?{}{more}", fake.project(), query.finish())
}

/// All pages: the class, the end of the minute by its number, and the value.
async fn all(fake: &Fake, metric: &str, more: &str) -> Vec<(Value, i64, Value)> {
    let (mut found, mut page) = (Vec::new(), String::new());
    loop {
        let (status, answer) =
            send_to(fake, "GET", &question(fake, metric, &format!("{more}{page}")), None).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        for series in answer["timeSeries"].as_array().into_iter().flatten() {
            for point in series["points"].as_array().unwrap() {
                let end: Timestamp = point["interval"]["endTime"].as_str().unwrap().parse().unwrap();
                let number = (end.as_second() - minute(0).as_second()) / 60;
                let class = series["metric"]["labels"]["response_code_class"].clone();
                found.push((class, number, point["value"].clone()));
            }
        }
        let Some(token) = answer["nextPageToken"].as_str() else { return found };
        page = format!("&pageToken={token}");
    }
}

#[tokio::test]
async fn requests_are_told_by_minute_and_class_of_their_own_kind_of_balancer() {
    let fake = Fake::start(Options::default());
    let service = "global/backendServices/web";
    fake.put(service, json!({ "loadBalancingScheme": "EXTERNAL_MANAGED" }));
    for (number, class, count) in [(0, 200, 3), (0, 500, 1), (2, 200, 5), (3, 200, 1), (-1, 200, 9), (4, 200, 9)] {
        fake.put_requests(service, minute(number), class, &vec![7.0; count]);
    }
    let count = |count: &str| json!({ "int64Value": count });
    let by_class = "&aggregation.groupByFields=metric.labels.response_code_class";
    let told = all(&fake, "https/request_count", by_class).await;
    let (good, bad) = (json!("200"), json!("500"));
    let expected =
        [(good.clone(), 4, count("1")), (good.clone(), 3, count("5")), (good, 1, count("3")), (bad, 1, count("1"))];
    assert_eq!(told, expected);
    let ends: Vec<_> =
        all(&fake, "https/request_count", "").await.into_iter().map(|(_, end, count)| (end, count)).collect();
    assert_eq!(ends, [(4, count("1")), (3, count("5")), (1, count("4"))]);
    for other in ["https/external/regional/request_count", "https/internal/request_count"] {
        assert_eq!(all(&fake, other, by_class).await, [], "{other}");
    }
}

#[tokio::test]
async fn latencies_are_told_as_a_histogram() {
    let fake = Fake::start(Options::default());
    let service = "regions/europe-west1/backendServices/web";
    fake.put(service, json!({ "loadBalancingScheme": "INTERNAL_MANAGED" }));
    fake.put_requests(service, minute(1), 200, &[0.5, 1.0, 1.2, 3.0]);
    let told = all(&fake, "https/internal/backend_latencies", "").await;
    let [(_, 2, value)] = &told[..] else { panic!("{told:?}") };
    let distribution = &value["distributionValue"];
    // Buckets end at 1, 1.4, 1.96, 2.744, 3.84.
    assert_eq!(distribution["bucketCounts"], json!(["1", "2", "0", "0", "1"]));
    assert_eq!((&distribution["count"], &distribution["mean"]), (&json!("4"), &json!(1.425)));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_understood_are_refused() {
    let fake = Fake::start(Options::default());
    let status = async |uri: String| send_to(&fake, "GET", &uri, None).await.unwrap().0;
    assert_eq!(status(question(&fake, "https/nothing", "")).await, 404);
    assert!(fake.take_violations().is_empty());
    let good = question(&fake, "https/request_count", "");
    for wrong in [
        good.replace("ALIGN_SUM", "ALIGN_DELTA"),
        good.replace("backend_target_name", "url_map_name"),
        good.replacen("2023", "2123", 1),
        good.replace("aggregation.alignmentPeriod=60s", "aggregation.alignmentPeriod=minute"),
    ] {
        assert_eq!(status(wrong.clone()).await, 400, "{wrong}");
        assert_eq!(fake.take_violations().len(), 1, "{wrong}");
    }
}
