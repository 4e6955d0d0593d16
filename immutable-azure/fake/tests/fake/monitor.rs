//! Azure Monitor: what gateways and machines measured.

use std::collections::BTreeSet;

use immutable_azure_fake::{Fake, Options};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{Heard, ask, read, send};
use crate::network::{GATEWAY, gateway};

/// The first second of a minute.
fn minute(number: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_040 + 60 * number).unwrap()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A question about three minutes.
fn question(metric: &str, aggregation: &str, filter: &str) -> String {
    let timespan = encoded(&format!("{}/{}", minute(0), minute(3)));
    let filter = if filter.is_empty() { String::new() } else { format!("&$filter={}&top=100", encoded(filter)) };
    format!(
        "{GATEWAY}/providers/Microsoft.Insights/metrics?metricnames={}&aggregation={aggregation}&interval=PT1M&timespan={timespan}{filter}",
        encoded(metric)
    )
}

/// A gateway that has answered.
async fn fake() -> Fake {
    let fake = Fake::start(Options { operation_time: std::time::Duration::ZERO, ..Options::default() });
    ask(&fake, "PUT", GATEWAY, Some(gateway(&fake, &["10.0.0.1"]))).await;
    let answered = |pool: &str, status: &str, at: i64, counts: &[f64]| {
        let labels = [
            ("BackendServer", "10.0.0.1:80"),
            ("BackendPool", pool),
            ("BackendHttpSetting", "web"),
            ("HttpStatusGroup", status),
        ];
        fake.put_metric(GATEWAY, "BackendResponseStatus", &labels, minute(at), counts);
    };
    answered("blue", "2xx", 0, &[3.0, 4.0]);
    answered("blue", "5xx", 0, &[1.0]);
    answered("green", "2xx", 1, &[9.0]);
    answered("blue", "2xx", 2, &[5.0]);
    answered("blue", "2xx", 3, &[99.0]);
    answered("blue", "2xx", -1, &[99.0]);
    fake
}

/// The labels and values of the series of one metric.
fn series(body: &Value, aggregation: &str) -> Vec<(Vec<String>, Vec<Value>)> {
    let one = |series: &Value| {
        let labels = series["metadatavalues"].as_array().unwrap().iter();
        let labels = labels.map(|label| format!("{}={}", label["name"]["value"], label["value"]).replace('"', ""));
        let points = series["data"].as_array().unwrap().iter().map(|point| point[aggregation].clone());
        (labels.collect(), points.collect())
    };
    body["value"][0]["timeseries"].as_array().unwrap().iter().map(one).collect()
}

fn values(values: &[f64]) -> Vec<Value> {
    values.iter().map(|value| json!(value)).collect()
}

#[tokio::test]
async fn series_are_told_apart_by_what_the_filter_names() {
    let fake = fake().await;
    let filter = "BackendPool eq 'BLUE' and HttpStatusGroup eq '*'";
    let told = read(&fake, &question("BackendResponseStatus", "Total", filter)).await;
    let labels = |status: &str| vec!["backendpool=blue".to_owned(), format!("httpstatusgroup={status}")];
    let expected = [(labels("2xx"), values(&[7.0, 0.0, 5.0])), (labels("5xx"), values(&[1.0, 0.0, 0.0]))];
    assert_eq!(series(&told, "total"), expected);
    assert_eq!((&told["interval"], &told["value"][0]["errorCode"]), (&json!("PT1M"), &json!("Success")));

    let told = read(&fake, &question("BackendResponseStatus", "Count,Maximum", "")).await;
    assert_eq!(series(&told, "count"), [(vec![], values(&[3.0, 1.0, 1.0]))]);
    assert_eq!(series(&told, "maximum"), [(vec![], values(&[4.0, 9.0, 5.0]))]);
    let either = "BackendPool eq 'blue' or BackendPool eq 'green'";
    assert_eq!(series(&read(&fake, &question("BackendResponseStatus", "Total", either)).await, "total").len(), 2);
    let nobody = "BackendPool eq 'red'";
    assert_eq!(series(&read(&fake, &question("BackendResponseStatus", "Total", nobody)).await, "total"), []);
    let first = question("BackendResponseStatus", "Total", filter).replace("top=100", "top=1");
    assert_eq!(series(&read(&fake, &first).await, "total").len(), 1, "the others are not mentioned");
}

#[tokio::test]
async fn what_no_metric_can_be_asked_for_is_refused() {
    let fake = fake().await;
    let refused = async |question: String| -> Heard { send(&fake, "GET", &question, None).await };
    for (wrong, words) in [
        (
            question("Nothing", "Total", ""),
            "Failed to find metric configuration for provider: Microsoft.Network, resource Type: applicationGateways, metric: Nothing",
        ),
        (question("Percentage CPU", "Total", ""), "Failed to find metric configuration"),
        (
            question("FailedRequests", "Total", "BackendPool eq 'blue'"),
            "Metric: FailedRequests does not support requested dimension combination: backendpool, supported ones are: BackendSettingsPool",
        ),
        (question("FailedRequests", "p99", ""), "Detect invalid value: p99"),
        (question("BackendResponseStatus", "Total", "BackendPool = 'blue'"), "Invalid filter"),
        (question("BackendResponseStatus", "Total", "BackendPool eq 'blue"), "Invalid filter"),
        (question("BackendResponseStatus", "Total", "BackendPool eq 'a' and BackendPool eq 'b'"), "Invalid filter"),
        (question("BackendResponseStatus", "Total", "BackendPool eq 'a' or HttpStatusGroup eq 'b'"), "Invalid filter"),
        (
            question(
                "BackendResponseStatus",
                "Total",
                "BackendPool eq 'a' and HttpStatusGroup eq 'c' or BackendPool eq 'b'",
            ),
            "Invalid filter",
        ),
        (question("FailedRequests", "Total", "").replace("timespan=2023", "timespan=2123"), "Detect invalid value"),
        (format!("{}&top=1", question("FailedRequests", "Total", "")), "The top parameter"),
    ] {
        let heard = refused(wrong).await;
        assert_eq!((heard.status, &heard.body["code"]), (400, &json!("BadRequest")), "{words}");
        let message = heard.body["message"].as_str().unwrap();
        assert!(message.starts_with(words), "{message}");
    }
    let missing = question("FailedRequests", "Total", "").replace("/web/", "/api/");
    assert_eq!(refused(missing).await.code(), (404, "ResourceNotFound"));
    assert!(fake.violations().is_empty());
    assert_eq!(refused(question("FailedRequests", "Total", "").replace("PT1M", "PT5M")).await.status, 501);
    assert_eq!(fake.take_violations().len(), 1);
    let may_only = |action: &str| {
        fake.set(|options| options.actions = Some(BTreeSet::from([action.to_owned()])));
    };
    may_only("Microsoft.Network/applicationGateways/read");
    let forbidden = refused(question("FailedRequests", "Total", "")).await;
    assert_eq!(forbidden.code(), (403, "AuthorizationFailed"));
    may_only("Microsoft.Insights/Metrics/Read");
    read(&fake, &question("FailedRequests", "Total", "")).await;
}
