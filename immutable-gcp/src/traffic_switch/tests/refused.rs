//! What is refused before anything is touched.

use immutable_core::provider::{Effect, ErrorKind};

use super::*;

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_touched() {
    let redirect = json!({ "defaultUrlRedirect": { "httpsRedirect": true, "stripQuery": false } });
    let bucket = json!({ "defaultService": format!("{LINK}global/backendBuckets/files") });
    let plain = json!({ "defaultService": format!("{LINK}{ORIGINAL}") });
    let change = |field: &str, value: Value| Some((field.to_owned(), value));
    let cases = [
        (redirect, None, "leads to no backend service"),
        (bucket, None, "the bucket files"),
        (plain.clone(), change("loadBalancingScheme", "EXTERNAL".into()), "EXTERNAL_MANAGED"),
        (plain.clone(), change("iap", json!({ "enabled": true })), "Identity-Aware Proxy"),
        (plain.clone(), change("edgeSecurityPolicy", "global/securityPolicies/edge".into()), "edge security policy"),
        (plain, change("cdnPolicy", json!({ "signedUrlKeyNames": ["key"] })), "signed URLs"),
    ];
    for (map, change, why) in cases {
        let stand = Stand::open().await;
        stand.fake.put(ROUTE, map);
        if let Some((field, value)) = change {
            let mut original = stand.fake.get(ORIGINAL).unwrap();
            original[field.as_str()] = value;
            stand.fake.put(ORIGINAL, original);
        }
        let new = stand.pair("web-new");
        let before = stand.fake.list("");
        let wanted = assignment(&[("web-new", 100)], &[&new]);
        let error = stand.until_done(&stand.switch(), "open", &wanted, || {}).await.unwrap_err();
        assert_eq!((error.kind(), error.effect()), (ErrorKind::InvalidRequest, Effect::None), "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert_eq!(stand.fake.list(""), before, "{why}");
    }
}

#[tokio::test]
async fn what_is_no_route_is_not_found() {
    let stand = Stand::open().await;
    let cx = OpContext::standalone("look");
    let switches: [&dyn TrafficSwitch; 2] = [&stand.switch(), &stand.membership()];
    for switch in switches {
        for route in
            ["web", "global/urlMaps/nobody", "global/urlMaps/web/pathMatchers/nobody", "global/backendServices/nobody"]
        {
            let error = switch.observe(&cx, &route.parse().unwrap()).await.unwrap_err();
            assert_eq!((error.kind(), error.effect()), (ErrorKind::NotFound, Effect::None), "{error}");
        }
    }
}

#[tokio::test]
async fn names_that_are_somebody_elses_are_left_alone() {
    let stand = Stand::open().await;
    let new = stand.pair("web-new");
    let name = stand.name("web-new");
    stand.fake.put(&format!("global/backendServices/{name}"), service("web", "EXTERNAL_MANAGED", "HTTP"));
    let wanted = assignment(&[("web-new", 100)], &[&new]);
    let error = stand.until_done(&stand.switch(), "open", &wanted, || {}).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
    stand.fake.remove(&format!("global/backendServices/{name}"));
    stand.endpoint_group(&name, "GCE_VM_IP_PORT");
    let error = stand.until_done(&stand.switch(), "open again", &wanted, || {}).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (ErrorKind::Conflict, Effect::None), "{error}");
}
