//! A recipe that is accepted makes an image that is as it should be, and nothing outside of its place.

#![no_main]

use std::fs;

use immutable_core::provider::{ImageBuilder, ImageSpec, Layer, OpContext, Progress};
use immutable_local::LocalImageBuilder;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Builder;

fuzz_target!(|text: &str| {
    let Ok(mut spec) = serde_json::from_str::<ImageSpec>(text) else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("source");
    fs::write(&source, "content").expect("a file in a temporary directory");
    for layer in &mut spec.recipe.layers {
        // No other file of this machine is read.
        if let Layer::Files(copies) = layer {
            copies.iter_mut().for_each(|copy| copy.source.clone_from(&source));
        }
    }
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let images = LocalImageBuilder::new(directory.path().join("root"));
        match images.ensure(&OpContext::standalone("fuzz"), &spec).await {
            Ok(Progress::Done(image)) => images.verify(&image).await.expect("what was just built"),
            Ok(pending) => panic!("{pending:?}"),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
        }
    });
    let found =
        fs::read_dir(directory.path()).expect("the directory").map(|entry| entry.expect("an entry").file_name());
    assert!(found.into_iter().all(|name| name == "source" || name == "root"), "something was made outside of the root");
});
