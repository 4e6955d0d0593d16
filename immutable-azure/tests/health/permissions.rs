//! What the custom role allows is enough to look and to measure, and each part of it is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use immutable_azure::{MonitorMetrics, RoleUse, ScaleSetHealthProbe};
use immutable_azure_fake::Fake;
use immutable_core::provider::{ErrorKind, HealthProbe, MetricSource, OpContext, ProbeTarget, ProviderError, Window};
use jiff::Timestamp;
use serde_json::json;

use crate::stand::{config, fleet, instances, make_set, slow};
use crate::support::{actions, without};

const GATEWAY: &str = "Microsoft.Network/applicationGateways/web";

/// Looks, or measures, in a fake that allows only these actions.
async fn done(fake: &Fake, of: RoleUse, allowed: BTreeSet<String>) -> Result<(), ProviderError> {
    let route = format!("{}/requestRoutingRules/web", fake.id(GATEWAY)).parse().unwrap();
    let (config, cx) = (config(fake).routes([route]).build().unwrap(), OpContext::standalone("look"));
    let target = ProbeTarget { instance: instances(fake).remove(0).0, fleet: fleet(), endpoint: None };
    let to = Timestamp::now() - Duration::from_mins(10);
    let window = Window { from: to - Duration::from_mins(5), to };
    fake.set(|options| options.actions = Some(allowed));
    if of == RoleUse::Health {
        ScaleSetHealthProbe::new(config).sample(&cx, &[target]).await.map(|_| ())
    } else {
        MonitorMetrics::new(config).query(&cx, &"errors".parse().unwrap(), &fleet(), window).await.map(|_| ())
    }
}

#[tokio::test]
async fn the_role_allows_what_is_needed_and_nothing_more() {
    for of in [RoleUse::Health, RoleUse::Metrics] {
        let (all, mut unneeded) = (actions([of]), actions([of]));
        for mode in ["Flexible", "Uniform"] {
            let fake = slow();
            fake.put(GATEWAY, json!({ "properties": { "backendAddressPools": [{ "name": "shared" }] } }));
            make_set(&fake, mode, 1, None).await;
            done(&fake, of, all.clone()).await.unwrap();
            for action in &all {
                if let Err(error) = done(&fake, of, without(&all, action)).await {
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                    assert!(error.to_string().to_ascii_lowercase().contains(&action.to_ascii_lowercase()), "{error}");
                    unneeded.remove(action);
                }
            }
        }
        assert_eq!(unneeded, BTreeSet::new(), "{of:?}");
    }
}
