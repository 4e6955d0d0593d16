//! The machines on which images are built, and the images: moto runs no user data, and an image is available at once.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::GzDecoder;
use immutable_core::model::Fingerprint;

use super::Options;
use super::call::Call;
use super::rules::between;
use super::xml::{all, edited, text};

/// A machine that builds an image. It does not run the script; it says what one says that has run it.
#[derive(Debug)]
struct Builder {
    started: Instant,
    says: String,
    is_off: bool,
}

/// What is being built.
#[derive(Debug, Default)]
pub(super) struct Builders {
    machines: BTreeMap<String, Builder>,
    /// Since when there is an image.
    images: BTreeMap<String, Instant>,
    /// The step in which the next build fails.
    failure: Option<String>,
}

impl Builders {
    pub(super) fn fail_next(&mut self, step: &str) {
        self.failure = Some(step.to_owned());
    }

    pub(super) fn learn(&mut self, call: &Call, answer: &str) {
        let now = Instant::now();
        match call.action.as_str() {
            "RunInstances" => {
                let Some(nonce) = call.get("UserData").and_then(nonce) else { return };
                let says = match self.failure.take() {
                    Some(step) => format!("immutable {nonce} failed {step} with status 1"),
                    None => format!("immutable {nonce} done {}", Fingerprint::of(&nonce)),
                };
                edited(answer, |document, _| {
                    for id in all(document, "instanceId").filter_map(|node| node.text()) {
                        let builder = Builder { started: now, says: says.clone(), is_off: false };
                        self.machines.insert(id.to_owned(), builder);
                    }
                });
            }
            "CreateImage" => {
                let made = between(answer, "<imageId>", "</imageId>").map(|id| (id.to_owned(), now));
                self.images.extend(made);
            }
            _ => {}
        }
    }

    /// The machines that have said what they had to, and switch themselves off.
    pub(super) fn switch_off(&mut self, options: &Options) -> Vec<String> {
        let done = self.machines.iter_mut().filter(|(_, one)| !one.is_off && one.started.elapsed() > options.build);
        done.map(|(id, builder)| {
            builder.is_off = true;
            id.clone()
        })
        .collect()
    }

    pub(super) fn edit(&self, call: &Call, answer: &str, options: &Options) -> String {
        edited(answer, |document, edits| match call.action.as_str() {
            "GetConsoleOutput" => {
                let builder = call.get("InstanceId").and_then(|id| self.machines.get(id));
                // An instance that has said nothing yet has no output.
                let said = builder.filter(|one| one.started.elapsed() > options.build).map_or("", |one| &one.says);
                let said =
                    if said.is_empty() { String::new() } else { format!("[    1.0] boot\n\n{said}\n\n{said}\n") };
                for output in all(document, "output") {
                    edits.replace(output, format!("<output>{}</output>", BASE64_STANDARD.encode(&said)));
                }
            }
            "DescribeImages" => {
                let is_young = |id: &str| self.images.get(id).is_some_and(|made| made.elapsed() < options.image);
                for image in all(document, "imageId").filter_map(|id| id.parent()) {
                    if text(image, "imageId").is_some_and(is_young) {
                        edits.set(image, "imageState", "pending");
                    }
                }
            }
            _ => {}
        })
    }
}

/// The word in the script of a builder by which its output is known.
fn nonce(user_data: &str) -> Option<String> {
    let data = BASE64_STANDARD.decode(user_data).ok()?;
    let mut script = String::new();
    GzDecoder::new(&data[..]).read_to_string(&mut script).ok()?;
    script.lines().find_map(|line| line.strip_prefix("# immutable-nonce: ").map(str::to_owned))
}
