//! The SDK's clients, and how they have to be set up.

use std::fmt;
use std::pin::Pin;

use google_cloud_auth::credentials::Credentials;
use google_cloud_compute_v1::client as compute;
use google_cloud_gax::client_builder::Error as BuildError;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_monitoring_v3::client::MetricService;

use crate::ConfigError;

type Opening<'a> = Pin<Box<dyn Future<Output = Result<Clients, ConfigError>> + Send + 'a>>;

/// One client of each kind of resource that is used. A plain struct, so that each can be replaced.
///
/// A client that is put in here by hand must not retry by itself ([`NeverRetry`]): the engine owns time, and a retry that it does not know of can
/// land after what it decided next.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "users replace single clients")]
#[allow(missing_docs, reason = "each is the client of the resource that it is named after")]
pub struct Clients {
    pub backend_services: compute::BackendServices,
    pub disks: compute::Disks,
    pub global_operations: compute::GlobalOperations,
    pub images: compute::Images,
    pub instance_group_managers: compute::InstanceGroupManagers,
    pub instance_templates: compute::InstanceTemplates,
    pub instances: compute::Instances,
    pub metrics: MetricService,
    pub network_endpoint_groups: compute::NetworkEndpointGroups,
    pub region_backend_services: compute::RegionBackendServices,
    pub region_instance_group_managers: compute::RegionInstanceGroupManagers,
    pub region_operations: compute::RegionOperations,
    pub region_url_maps: compute::RegionUrlMaps,
    pub url_maps: compute::UrlMaps,
    pub zone_operations: compute::ZoneOperations,
}

impl Clients {
    /// Clients with Application Default Credentials: what `GOOGLE_APPLICATION_CREDENTIALS` names, who has signed in with `gcloud auth
    /// application-default login`, or the service account of the machine.
    ///
    /// # Errors
    /// [`ConfigError`] when there are credentials and they cannot be read.
    pub async fn from_env() -> Result<Self, ConfigError> {
        let credentials = google_cloud_auth::credentials::Builder::default().build();
        let credentials = credentials.map_err(|error| ConfigError::new("credentials", error.to_string()))?;
        Self::new(credentials, None).await
    }

    /// Clients with these credentials, without retries. With an endpoint, such as `http://127.0.0.1:8080`, they talk to that and not to Google.
    ///
    /// # Errors
    /// [`ConfigError`] when the endpoint is no URL.
    pub async fn new(credentials: Credentials, endpoint: Option<&str>) -> Result<Self, ConfigError> {
        Self::open(credentials, endpoint).await
    }

    /// In a box and never inlined: with optimisation, an async function is compiled in the crate that calls it, and this one brings the whole SDK,
    /// which takes minutes.
    #[inline(never)]
    fn open(credentials: Credentials, endpoint: Option<&str>) -> Opening<'_> {
        Box::pin(Self::build(credentials, endpoint))
    }

    async fn build(credentials: Credentials, endpoint: Option<&str>) -> Result<Self, ConfigError> {
        macro_rules! client {
            ($client:ty) => {{
                let builder = <$client>::builder().with_credentials(credentials.clone()).with_retry_policy(NeverRetry);
                let builder = match endpoint {
                    Some(endpoint) => builder.with_endpoint(endpoint),
                    None => builder,
                };
                builder.build().await.map_err(|error: BuildError| ConfigError::new("clients", error.to_string()))?
            }};
        }
        Ok(Self {
            backend_services: client!(compute::BackendServices),
            disks: client!(compute::Disks),
            global_operations: client!(compute::GlobalOperations),
            images: client!(compute::Images),
            instance_group_managers: client!(compute::InstanceGroupManagers),
            instance_templates: client!(compute::InstanceTemplates),
            instances: client!(compute::Instances),
            metrics: client!(MetricService),
            network_endpoint_groups: client!(compute::NetworkEndpointGroups),
            region_backend_services: client!(compute::RegionBackendServices),
            region_instance_group_managers: client!(compute::RegionInstanceGroupManagers),
            region_operations: client!(compute::RegionOperations),
            region_url_maps: client!(compute::RegionUrlMaps),
            url_maps: client!(compute::UrlMaps),
            zone_operations: client!(compute::ZoneOperations),
        })
    }
}

impl fmt::Debug for Clients {
    /// Without the clients: what the SDK prints of them is not ours to vouch for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}
