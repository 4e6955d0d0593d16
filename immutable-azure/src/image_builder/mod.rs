//! Golden images: made on a machine which runs a recipe and ends.

use std::time::Duration;

use immutable_guest::Builds;

/// How images are built on machines of Azure.
pub(crate) const BUILDS: Builds = Builds {
    base: "name the image to start from, with GalleryImageBuilder::base or an image that was built before",
    longest_label: 128,
    largest_file: 32 * 1024,
    too_large: "fetch it in a script from your artifact store, with the builder's identity",
    tell: |_| String::new(),
    stays_on: Duration::from_hours(1),
};
