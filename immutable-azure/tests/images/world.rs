//! A fake of Azure, and drivers that build images there.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use immutable_azure::{Clients, Config, GalleryImageBuilder, ImageSettings};
use immutable_azure_fake::{Fake, Options, Ran};
use immutable_core::model::{Fingerprint, Image};
use immutable_core::provider::{
    ErrorKind, ImageBuilder as _, ImageSpec, Layer, OpContext, Progress, ProviderError, Recipe,
};
use serde_json::{Value, json};

pub(crate) use crate::support::builders::GALLERY;
use crate::support::{Fixed, builders};

/// An image that was made elsewhere.
pub(crate) const BASE: &str = "debian:debian-12:12-gen2:0.20260112.1";

/// What comes of the next build.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Fails(String),
    Silent,
    WrongNonce,
    /// The agent is not well at first.
    Deaf,
    /// It is done, and cannot be made into a pattern.
    Unsealed,
    /// It is done, and nobody hears how its sealing goes.
    SealedInSilence,
}

pub(crate) struct World {
    pub(crate) fake: Fake,
    pub(crate) clients: Clients,
    outcomes: Arc<Mutex<VecDeque<Outcome>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let fake = Fake::start(options);
        fake.put(GALLERY, json!({}));
        let outcomes = Arc::new(Mutex::new(VecDeque::new()));
        let next = Arc::clone(&outcomes);
        fake.on_run_command(move |machine, script| run(machine, script, &mut next.lock().unwrap()));
        let clients = Clients::new(Arc::new(Fixed), Some(&fake.url())).unwrap();
        Self { fake, clients, outcomes }
    }

    pub(crate) fn next_build(&self, outcome: Outcome) {
        self.outcomes.lock().unwrap().push_back(outcome);
    }

    /// A driver of its own, as another process would be.
    pub(crate) fn images(&self) -> GalleryImageBuilder {
        self.images_with(self.settings())
    }

    pub(crate) fn settings(&self) -> ImageSettings {
        ImageSettings::new(self.fake.id(GALLERY))
    }

    pub(crate) fn images_with(&self, settings: ImageSettings) -> GalleryImageBuilder {
        let subnet = self.fake.id("Microsoft.Network/virtualNetworks/net/subnets/main");
        let subscription = Options::default().subscription;
        let config = Config::builder(self.clients.clone(), subscription, "fake", "westeurope")
            .vm_size("Standard_B2s")
            .subnet(subnet)
            .images(settings)
            .build();
        GalleryImageBuilder::new(config.unwrap())
    }

    /// The machines that are there.
    pub(crate) fn builders(&self) -> Vec<Value> {
        let all = self.fake.list("Microsoft.Compute/virtualMachines/").into_values();
        all.filter(|one| one["type"] == "Microsoft.Compute/virtualMachines").collect()
    }

    /// The only machine, when it runs.
    pub(crate) async fn builder(&self) -> Value {
        for _ in 0..500 {
            let builders = self.builders();
            match builders.as_slice() {
                [builder] if builder["properties"]["provisioningState"] == "Succeeded" => return builder.clone(),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("no builder runs: {:?}", self.builders());
    }

    /// Waits until nothing goes on by itself: each step of a build takes less than this.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    /// All that is there beside the gallery and its definitions, when nothing changes any more.
    pub(crate) async fn left(&self) -> Vec<String> {
        self.settle().await;
        let kept = ["Microsoft.Compute/galleries", "Microsoft.Compute/galleries/images"];
        let all = self.fake.list("").into_values().filter(|one| !kept.iter().any(|kind| one["type"] == *kind));
        all.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// How often anything was asked to change.
    pub(crate) fn changes(&self) -> usize {
        let calls = self.fake.calls();
        let is_look = |operation: &str| operation.starts_with("GET ") || operation.starts_with("LIST ");
        calls.iter().filter(|(operation, _)| !is_look(operation)).map(|(_, count)| count).sum()
    }
}

/// What a run command does on a builder.
fn run(machine: &Value, script: &str, outcomes: &mut VecDeque<Outcome>) -> Option<Ran> {
    let is_for_sealing = matches!(outcomes.front(), Some(Outcome::Unsealed | Outcome::SealedInSilence));
    let is_for_this = is_for_sealing == builders::seals(script);
    match outcomes.pop_front_if(|_| is_for_this) {
        None => Some(builders::well(machine, script)),
        Some(Outcome::Fails(step)) => {
            let nonce = builders::nonce(machine);
            Some(builders::says(&format!("immutable {nonce} failed {step} with status 1")))
        }
        Some(Outcome::WrongNonce) => {
            Some(builders::says(&format!("immutable 0123 done {}", Fingerprint::of("content"))))
        }
        Some(Outcome::Deaf) => Some(Ran { exit_code: 1, ..Ran::default() }),
        Some(Outcome::Silent | Outcome::SealedInSilence) => None,
        Some(Outcome::Unsealed) => Some(Ran { exit_code: 1, error: "systemd-run:\nno".to_owned(), ..Ran::default() }),
    }
}

pub(crate) fn spec(script: &str) -> ImageSpec {
    let base = Some(GalleryImageBuilder::base(BASE).unwrap());
    let recipe = Recipe { base, layers: vec![Layer::Script(script.to_owned())], command: vec!["app".to_owned()] };
    ImageSpec { service: "web".parse().unwrap(), recipe, version: "1.0.0".to_owned(), commit: Some("abc".to_owned()) }
}

pub(crate) fn cx() -> OpContext {
    OpContext::standalone("images")
}

/// Asks until it is done or has failed, past what the platform got wrong for a moment.
pub(crate) async fn build(images: &GalleryImageBuilder, spec: &ImageSpec) -> Result<Image, ProviderError> {
    use ErrorKind::{Capacity, Internal, InvalidRequest, PermissionDenied, Timeout};
    let mut last = None;
    for _ in 0..500 {
        match images.ensure(&cx(), spec).await {
            Ok(Progress::Done(image)) => return Ok(image),
            Err(error) if matches!(error.kind(), InvalidRequest | Timeout | Capacity | Internal | PermissionDenied) => {
                return Err(error);
            }
            Err(error) if error.to_string().contains("is another one") => return Err(error),
            other => last = Some(other),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never done: {last:?}");
}

pub(crate) async fn remove(images: &GalleryImageBuilder, image: &Image) -> Result<(), ProviderError> {
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

/// The resource of an image, named from its type on.
pub(crate) fn place(image: &Image) -> &str {
    image.id.as_str().split_once("/providers/").unwrap().1
}
