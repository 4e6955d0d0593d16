//! A fake of Google Cloud, and drivers that build images there.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use immutable_core::model::Image;
use immutable_core::provider::{
    ErrorKind, ImageBuilder as _, ImageSpec, Layer, OpContext, Progress, ProviderError, Recipe,
};
use immutable_gcp::{Clients, ComputeImageBuilder, Config, ImageSettings, Location};
use immutable_gcp_fake::{Fake, Options};
use serde_json::{Value, json};

pub(crate) const ZONE: &str = "europe-west1-b";

pub(crate) struct World {
    pub(crate) fake: Fake,
    pub(crate) clients: Clients,
    /// The URL of an image that was made elsewhere.
    pub(crate) base: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let fake = Fake::start(options);
        fake.put("global/images/debian-12", json!({ "status": "READY", "diskSizeGb": "10" }));
        let clients = Clients::new(anonymous::Builder::new().build(), Some(&fake.url())).await.unwrap();
        let base = format!("projects/{}/global/images/debian-12", fake.project());
        Self { fake, clients, base }
    }

    /// A driver of its own, as another process would be.
    pub(crate) fn images(&self) -> ComputeImageBuilder {
        self.images_with(ImageSettings::default())
    }

    pub(crate) fn images_with(&self, settings: ImageSettings) -> ComputeImageBuilder {
        ComputeImageBuilder::new(self.config(settings))
    }

    pub(crate) fn config(&self, settings: ImageSettings) -> Config {
        let config = Config::builder(self.clients.clone(), self.fake.project(), Location::zone(ZONE), "e2-small");
        config.images(settings).build().unwrap()
    }

    pub(crate) fn spec(&self, script: &str) -> ImageSpec {
        let base = Some(ComputeImageBuilder::base(&self.base).unwrap());
        let recipe = Recipe { base, layers: vec![Layer::Script(script.to_owned())], command: vec!["app".to_owned()] };
        ImageSpec {
            service: "web".parse().unwrap(),
            recipe,
            version: "1.0.0".to_owned(),
            commit: Some("abc".to_owned()),
        }
    }

    /// The machines that are there.
    pub(crate) fn builders(&self) -> Vec<Value> {
        self.fake.list(&format!("zones/{ZONE}/instances/")).into_values().collect()
    }

    /// The only machine, when it runs.
    pub(crate) async fn builder(&self) -> Value {
        for _ in 0..500 {
            let builders = self.builders();
            match builders.as_slice() {
                [builder] if builder["status"] == "RUNNING" => return builder.clone(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("no builder runs: {:?}", self.builders());
    }

    /// Waits until nothing goes on by itself: each step of a build takes less than this.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    /// All images that were made, and machines and disks, of all zones, when nothing changes any more.
    pub(crate) async fn left(&self) -> Vec<String> {
        let is_running = |(path, value): (String, Value)| path.contains("/operations/") && value["status"] != "DONE";
        for _ in 0..500 {
            if !self.fake.list("").into_iter().any(is_running) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let images = self.fake.list("global/images/").into_keys().filter(|path| *path != self.base);
        let rest = self.fake.list("zones/").into_keys().filter(|path| !path.contains("/operations/"));
        images.chain(rest).collect()
    }

    /// How often anything was asked to change.
    pub(crate) fn changes(&self) -> usize {
        let calls = self.fake.calls();
        let is_look = |method: &str| method.contains("ist") || method.contains(".get");
        calls.iter().filter(|(method, _)| !is_look(method)).map(|(_, count)| count).sum()
    }
}

pub(crate) fn cx() -> OpContext {
    OpContext::standalone("images")
}

/// Asks until it is done or has failed, past what the platform got wrong for a moment.
pub(crate) async fn build(images: &ComputeImageBuilder, spec: &ImageSpec) -> Result<Image, ProviderError> {
    use ErrorKind::{Capacity, InvalidRequest, Timeout};
    let mut last = None;
    for _ in 0..500 {
        match images.ensure(&cx(), spec).await {
            Ok(Progress::Done(image)) => return Ok(image),
            Err(error) if matches!(error.kind(), InvalidRequest | Timeout | Capacity) => return Err(error),
            Err(error) if error.to_string().contains("is another one") => return Err(error),
            other => last = Some(other),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never done: {last:?}");
}

pub(crate) async fn remove(images: &ComputeImageBuilder, image: &Image) -> Result<(), ProviderError> {
    for _ in 0..100 {
        match images.remove(&cx(), image).await? {
            Progress::Done(()) => return Ok(()),
            Progress::Pending { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("never removed");
}

/// Lets a call go on for so many polls, and drops it if it is not done by then, as a crash does.
pub(crate) async fn cut<T>(call: impl Future<Output = T>, polls: usize) -> Option<T> {
    let (mut call, mut left) = (pin!(call), polls);
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(cx).map(Some)
    })
    .await
}
