//! A stand-in for the API: answers that are written down, in their order, and a record of what was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use crate::{Clients, Config};

/// A request: what it asks for, and with which parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) action: String,
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Sent {
    /// The value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// How many parameters have a name with this end.
    pub(crate) fn count(&self, end: &str) -> usize {
        self.parameters.keys().filter(|name| name.ends_with(end)).count()
    }
}

#[derive(Debug)]
enum Reply {
    Answer(u16, String),
    Lost,
}

#[derive(Debug, Default)]
struct Inner {
    steps: Mutex<VecDeque<(&'static str, Reply)>>,
    sent: Mutex<Vec<Sent>>,
}

/// What is to be asked, and answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(Arc<Inner>);

impl Script {
    fn then(&self, action: &'static str, reply: Reply) -> &Self {
        self.0.steps.lock().unwrap().push_back((action, reply));
        self
    }

    /// The next request asks for this, and is answered with this content of its result.
    pub(crate) fn answer(&self, action: &'static str, result: &str) -> &Self {
        let body = format!("<{action}Response><{action}Result>{result}</{action}Result></{action}Response>");
        self.then(action, Reply::Answer(200, body))
    }

    /// The same for EC2, which has nothing around its results.
    pub(crate) fn answer_of_ec2(&self, action: &'static str, result: &str) -> &Self {
        self.then(action, Reply::Answer(200, format!("<{action}Response>{result}</{action}Response>")))
    }

    /// The next request asks for this, and is refused.
    pub(crate) fn refuse(&self, action: &'static str, code: &str) -> &Self {
        let error = format!("<Type>Sender</Type><Code>{code}</Code><Message>{code} it is</Message>");
        self.then(action, Reply::Answer(400, format!("<ErrorResponse><Error>{error}</Error></ErrorResponse>")))
    }

    /// The same for EC2.
    pub(crate) fn refuse_of_ec2(&self, action: &'static str, code: &str, message: &str) -> &Self {
        let error = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        self.then(action, Reply::Answer(400, format!("<Response><Errors>{error}</Errors></Response>")))
    }

    /// The next request asks for this, and its answer never arrives.
    pub(crate) fn lose(&self, action: &'static str) -> &Self {
        self.then(action, Reply::Lost)
    }

    /// Everything that was asked since the last time, all of which was expected. Nothing else is expected any more.
    pub(crate) fn finish(&self) -> Vec<Sent> {
        let left: Vec<_> = self.0.steps.lock().unwrap().drain(..).map(|(action, _)| action).collect();
        assert!(left.is_empty(), "{left:?} was never asked for");
        std::mem::take(&mut *self.0.sent.lock().unwrap())
    }

    /// Clients that ask here.
    pub(crate) fn clients(&self) -> Clients {
        let credentials = Credentials::new("AKIATEST", "secret", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(SharedHttpClient::new(self.clone()))
            .build();
        Clients::new(&sdk)
    }

    /// A configuration whose clients ask here.
    pub(crate) fn config(&self) -> Config {
        let config = Config::builder(self.clients()).subnets(["subnet-1"]).security_groups(["sg-1"]);
        config.instance_types(["m7i.large"]).build().unwrap()
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = request.body().bytes().unwrap_or_default();
        let mut parameters: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        parameters.remove("Version");
        let action = parameters.remove("Action").unwrap_or_default();
        let (expected, reply) = self.0.steps.lock().unwrap().pop_front().unwrap_or(("nothing", Reply::Lost));
        assert_eq!(action, expected, "{parameters:?}");
        self.0.sent.lock().unwrap().push(Sent { action, parameters });
        HttpConnectorFuture::ready(match reply {
            Reply::Answer(status, body) => {
                Ok(HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body)))
            }
            Reply::Lost => Err(ConnectorError::io("the connection was reset".into())),
        })
    }
}
