//! This machine, and what the suite does to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use immutable_core::health::HttpProbe;
use immutable_core::model::{Endpoint, FleetId, Image, InstanceId, LaunchSpec, Release, RouteId, Sample};
use immutable_core::provider::{HealthProbe, ImageSpec, Layer, OpContext, Platform, ProbeTarget, ProviderError};
use immutable_core::testkit::conformance::{Ability, Fault, Harness, Ownership, Version};
use immutable_local::{LocalConfig, LocalSwitch, MapSecrets, Secret, SwitchOptions};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::instance::{GO, HOLD, ILL, SCRIPT};
use crate::support::{Place, build, file, program, spec, tamper};

const SECRET: &str = "hunter2-in-the-clear";

#[derive(Debug)]
pub(crate) struct LocalHarness {
    place: Place,
    switch: LocalSwitch,
    is_blind: Arc<AtomicBool>,
    /// Listens, and accepts nobody.
    silent: TcpListener,
    held: Mutex<Option<Held>>,
    /// The image of each version, once it is built.
    images: Mutex<BTreeMap<Version, Image>>,
}

/// A request in flight.
#[derive(Debug)]
struct Held {
    stream: TcpStream,
    instance: InstanceId,
}

impl LocalHarness {
    pub(crate) fn new() -> Self {
        let route = RouteId::new("conformance").unwrap();
        let switch = LocalSwitch::bind(SwitchOptions { route, ..SwitchOptions::default() }).unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            place: Place::new(),
            switch,
            is_blind: Arc::default(),
            silent,
            held: Mutex::default(),
            images: Mutex::default(),
        }
    }

    /// An image of the program of every instance, and a text that is in no other one.
    fn image(&self, text: &str) -> ImageSpec {
        let script = self.place.source("script", format!("#!/bin/sh\n{SCRIPT}\n"));
        let text = file("version", &self.place.source(text, text));
        let image = spec(vec![Layer::Files(vec![program("bin/app", &script), text])]);
        ImageSpec { service: self.service(), ..image }
    }

    fn directory(&self, instance: &InstanceId) -> PathBuf {
        self.place.root().join("instances").join(instance.as_str())
    }

    /// What is on disk about an instance.
    fn record(&self, instance: &InstanceId) -> Option<serde_json::Value> {
        let text = fs::read(self.directory(instance).join("record.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    fn kill(&self, instance: &InstanceId) -> bool {
        let record = self.record(instance).unwrap();
        let pid = record["process"]["pid"].as_i64().unwrap().try_into().unwrap();
        let group = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).is_ok()
    }

    fn change_image_of(&self, instance: &InstanceId) {
        let record = self.record(instance).unwrap();
        let image = self.place.root().join("images").join(record["image"].as_str().unwrap());
        tamper(&image.join("tree/version"), "somebody was here");
    }

    /// Sends a request through the proxy.
    async fn send(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.switch.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: conformance\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

#[async_trait]
impl Harness for LocalHarness {
    fn platform(&self) -> Platform {
        let secrets = MapSecrets::new([("token".parse().unwrap(), Secret::new(SECRET))]);
        let config = LocalConfig::new(self.place.root()).with_secrets(secrets);
        let http = HttpProbe::get("/health").build().unwrap();
        immutable_local::platform(config, &self.switch, Blindable { http, is_blind: Arc::clone(&self.is_blind) })
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(8)
    }

    async fn release(&self, version: Version) -> Release {
        let mut images = self.images.lock().await;
        if let Entry::Vacant(place) = images.entry(version) {
            place.insert(build(&self.place.images(), &self.image(&format!("{version:?}"))).await);
        }
        let mut launch = LaunchSpec::default();
        let this = std::env::current_exe().unwrap();
        launch.config.insert("PROGRAM".parse().unwrap(), this.to_str().unwrap().to_owned());
        launch.secrets.insert("TOKEN".parse().unwrap(), "token".parse().unwrap());
        Release::new(images[&version].clone(), launch)
    }

    fn image_spec(&self, version: Version) -> ImageSpec {
        self.image(&format!("only built: {version:?}"))
    }

    fn lacks(&self) -> Vec<(Ability, &'static str)> {
        vec![
            (Ability::LoseAnswers, "a call is work of this process: there is no wire to lose an answer on"),
            (Ability::Throttle, "no machine counts calls"),
            (Ability::OtherRoute, "a switch is one proxy with one route"),
            (Ability::SlowBuild, "an image is built in one call"),
        ]
    }

    /// More than are started at once.
    fn many(&self) -> u32 {
        20
    }

    async fn inject(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Kill(instance) => return self.kill(instance),
            Fault::MakeIll(instance) => fs::write(self.directory(instance).join("work").join(ILL), "").unwrap(),
            Fault::Heal(instance) => fs::remove_file(self.directory(instance).join("work").join(ILL)).unwrap(),
            Fault::Drift(instance) => self.change_image_of(instance),
            Fault::BlindProbe => self.is_blind.store(true, Ordering::SeqCst),
            _ => return false,
        }
        true
    }

    fn silent_endpoint(&self) -> Option<Endpoint> {
        Some(self.silent.local_addr().unwrap().into())
    }

    fn reopen(&self) -> Option<Platform> {
        Some(self.platform())
    }

    async fn ownership(&self, instance: &InstanceId) -> Option<Ownership> {
        let record = self.record(instance)?;
        Some(Ownership {
            service: serde_json::from_value(record["service"].clone()).unwrap(),
            release: serde_json::from_value(record["release"].clone()).unwrap(),
            rollout: serde_json::from_value(record["rollout"].clone()).unwrap(),
        })
    }

    async fn request(&self) -> Option<Result<FleetId, String>> {
        let mut answer = String::new();
        let read = self.send("/").await.read_to_string(&mut answer).await;
        let body = answer.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200 "));
        // An answer that was cut is not the name of a fleet that has traffic.
        Some(read.ok().and(body).and_then(|(_, body)| body.parse().ok()).ok_or(answer))
    }

    async fn begin_request(&self) -> Option<InstanceId> {
        let mut stream = self.send(HOLD).await;
        let mut answer = Vec::new();
        // The instance sends its name at once, and the rest when it is let go.
        while !self.switch.loads().iter().any(|load| is_named(&answer, &load.instance)) {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        let load = self.switch.loads().into_iter().find(|load| is_named(&answer, &load.instance)).unwrap();
        let instance = load.instance.clone();
        *self.held.lock().await = Some(Held { stream, instance: load.instance });
        Some(instance)
    }

    async fn finish_request(&self) -> Result<(), String> {
        let Held { mut stream, instance } = self.held.lock().await.take().ok_or("no request was begun")?;
        fs::write(self.directory(&instance).join("work").join(GO), "").unwrap();
        let mut rest = String::new();
        let read = stream.read_to_string(&mut rest).await;
        if read.is_ok() && rest == "\ndone" { Ok(()) } else { Err(format!("{read:?}: {rest:?}")) }
    }

    fn secrets(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }
}

fn is_named(answer: &[u8], instance: &InstanceId) -> bool {
    String::from_utf8_lossy(answer).split_once("\r\n\r\n").is_some_and(|(_, body)| body == instance.as_str())
}

/// The probe of the platform, which is told a host that nobody can find when it is to be blind.
#[derive(Debug)]
struct Blindable {
    http: HttpProbe,
    is_blind: Arc<AtomicBool>,
}

#[async_trait]
impl HealthProbe for Blindable {
    async fn sample(&self, cx: &OpContext, targets: &[ProbeTarget]) -> Result<Vec<Sample>, ProviderError> {
        let mut targets = targets.to_vec();
        if self.is_blind.swap(false, Ordering::SeqCst) {
            // Not even a question for a name server: a label of a name is not empty.
            let nowhere = Endpoint::new("no..body", 80).unwrap();
            for target in &mut targets {
                target.endpoint = Some(nowhere.clone());
            }
        }
        self.http.sample(cx, &targets).await
    }
}
