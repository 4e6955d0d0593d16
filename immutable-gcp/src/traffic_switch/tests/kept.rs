//! What stays as it was.

use super::*;

/// A URL map with something in every place, among it what the SDK does not know (`imageOptimizationPolicy`).
fn rich() -> Value {
    let other = format!("{LINK}global/backendServices/other");
    let original = format!("{LINK}{ORIGINAL}");
    json!({
        "description": "by hand",
        "defaultService": original,
        "defaultRouteAction": {
            "retryPolicy": { "numRetries": 3, "retryConditions": ["5xx"] },
            "imageOptimizationPolicy": {},
            "timeout": { "seconds": "7", "nanos": 5 },
        },
        "headerAction": { "requestHeadersToAdd": [{ "headerName": "x", "headerValue": "1", "replace": true }] },
        "hostRules": [{ "hosts": ["api.example.com"], "pathMatcher": "api", "description": "the API" }],
        "pathMatchers": [
            {
                "name": "static",
                "defaultUrlRedirect": { "httpsRedirect": true, "stripQuery": false },
            },
            {
                "name": "api",
                "defaultService": original,
                "pathRules": [{ "paths": ["/v1/*"], "service": other }],
                "headerAction": { "responseHeadersToRemove": ["server"] },
            },
        ],
        "tests": [{ "host": "api.example.com", "path": "/v1/x", "service": other }],
    })
}

async fn stand() -> Stand {
    let stand = Stand::open().await;
    stand.fake.put("global/backendServices/other", service("web", "EXTERNAL_MANAGED", "HTTP"));
    stand.fake.put(ROUTE, rich());
    stand
}

fn without(mut map: Value, fields: &[&str]) -> Value {
    for field in fields {
        map.as_object_mut().unwrap().remove(*field);
    }
    map
}

#[tokio::test]
async fn everything_else_in_a_url_map_is_kept_and_closing_and_removing_leaves_it_as_it_was() {
    let stand = stand().await;
    let before = stand.fake.get(ROUTE).unwrap();
    let new = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&new])).await;
    let open = stand.fake.get(ROUTE).unwrap();
    let changing = ["fingerprint", "defaultService", "defaultRouteAction"];
    assert_eq!(without(open.clone(), &changing), without(before.clone(), &changing));
    assert_eq!(open.get("defaultService"), None);
    let action = without(open["defaultRouteAction"].clone(), &["weightedBackendServices"]);
    assert_eq!(action, before["defaultRouteAction"]);
    stand.apply("close", &assignment(&[], &[])).await;
    removal::remove(&stand, "time 0", "web-new").await.unwrap();
    let after = stand.fake.get(ROUTE).unwrap();
    assert_eq!(without(after, &["fingerprint"]), without(before, &["fingerprint"]));
}

#[tokio::test]
async fn the_default_route_of_a_path_matcher_is_a_route_of_its_own() {
    let mut stand = stand().await;
    let before = stand.fake.get(ROUTE).unwrap();
    let whole = stand.look(&stand.switch()).await.version;
    stand.route = format!("{ROUTE}/pathMatchers/api").parse().unwrap();
    let new = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&new])).await;
    let state = stand.look(&stand.switch()).await;
    assert_eq!(state.split, Split::all_to(fleet("web-new")));
    assert!(stand.fake.request(&format!("{ROUTE}/pathMatchers/api")).unwrap().contains("/web-new-"));
    let open = stand.fake.get(ROUTE).unwrap();
    assert_eq!(
        without(open.clone(), &["fingerprint", "pathMatchers"]),
        without(before.clone(), &["fingerprint", "pathMatchers"])
    );
    assert_eq!(open["pathMatchers"][0], before["pathMatchers"][0]);
    let changing = ["defaultService", "defaultRouteAction"];
    let (is, was) = (open["pathMatchers"][1].clone(), before["pathMatchers"][1].clone());
    assert_eq!(without(is, &changing), without(was, &changing));
    // The other route in the same URL map has the version that it had: its rollouts go on undisturbed.
    stand.route = ROUTE.parse().unwrap();
    assert_eq!(stand.look(&stand.switch()).await.version, whole);
    stand.route = format!("{ROUTE}/pathMatchers/nobody").parse().unwrap();
    let error = stand.switch().observe(&OpContext::standalone("look"), &stand.route).await.unwrap_err();
    assert_eq!(error.kind(), immutable_core::provider::ErrorKind::NotFound);
}

#[tokio::test]
async fn somebody_elses_traffic_beside_ours_is_seen_kept_and_named() {
    let stand = stand().await;
    let new = stand.pair("web-new");
    stand.apply("open", &assignment(&[("web-new", 100)], &[&new])).await;
    let mut map = stand.fake.get(ROUTE).unwrap();
    let header = json!({ "requestHeadersToRemove": ["cookie"] });
    let other = json!({ "backendService": format!("{LINK}global/backendServices/other"), "weight": 250, "headerAction": header });
    let weighted = map["defaultRouteAction"]["weightedBackendServices"].as_array_mut().unwrap();
    weighted[1]["weight"] = 750.into();
    weighted.push(other);
    stand.fake.put(ROUTE, map);
    let state = stand.look(&stand.switch()).await;
    let points = |split: &Split, name: &str| split.weight(&fleet(name)).points();
    assert_eq!((points(&state.split, "other"), points(&state.split, "web-new")), (2500, 7500));
    // It keeps what it is given, with what it says of its own.
    stand.apply("less", &assignment(&[("other", 10), ("web-new", 90)], &[&new])).await;
    assert_eq!(stand.weights()["other"], 100);
    let kept = stand.fake.get(ROUTE).unwrap()["defaultRouteAction"]["weightedBackendServices"][2].clone();
    assert_eq!(kept["headerAction"], header);
    // Without ours the route is closed, and closing leaves the others what they have.
    let mut map = stand.fake.get(ROUTE).unwrap();
    map["defaultRouteAction"]["weightedBackendServices"][1]["weight"] = 0.into();
    stand.fake.put(ROUTE, map);
    assert!(stand.look(&stand.switch()).await.split.is_closed());
    stand.apply("close", &assignment(&[], &[&new])).await;
    assert_eq!(stand.weights()["other"], 100);
}

#[tokio::test]
async fn how_far_the_model_is_drained_is_its_own_affair() {
    let stand = stand().await;
    let mut original = stand.fake.get(ORIGINAL).unwrap();
    original["backends"][0]["capacityScaler"] = 0.0.into();
    stand.fake.put(ORIGINAL, original);
    stand.apply("open", &assignment(&[("web-new", 100)], &[&stand.pair("web-new")])).await;
    let made = stand.fake.get(&format!("global/backendServices/{}", stand.name("web-new"))).unwrap();
    assert_eq!(made["backends"][0]["maxRatePerEndpoint"], 70.0, "{made}");
    assert_eq!(made["backends"][0].get("capacityScaler"), None, "{made}");
}
