//! The user data of a builder: the script of a build, compressed, as cloud-init takes it.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};
use immutable_guest::{Attempt, Build};

use crate::guest::{EC2, LIMIT};

/// The user data. The same for the same recipe and attempt.
///
/// # Errors
/// What to do about a recipe that is too large.
pub(super) fn user_data(build: &Build, attempt: &Attempt) -> Result<Vec<u8>, String> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    let written = encoder.write_all(build.script(attempt).as_bytes()).and_then(|()| encoder.finish());
    let data = written.map_err(|error| format!("the recipe cannot be compressed: {error}"))?;
    if data.len() > LIMIT {
        return Err(format!("the recipe has {} bytes: {}", data.len(), EC2.builds.too_large));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use flate2::read::GzDecoder;
    use immutable_core::model::Fingerprint;
    use immutable_core::provider::Layer;
    use immutable_guest::testkit::{NONCE, spec};

    use super::*;

    fn build(script: &str) -> Build {
        Build::new(&EC2, &spec(vec![Layer::Script(script.to_owned())], &["app"])).unwrap()
    }

    #[test]
    fn the_user_data_is_the_script_compressed_and_too_much_is_refused() {
        let attempt = Attempt { nonce: NONCE.to_owned(), deadline: Duration::from_mins(30) };
        let small = build("true");
        let data = user_data(&small, &attempt).unwrap();
        assert_eq!(data, user_data(&small, &attempt).unwrap());
        let mut read = String::new();
        GzDecoder::new(data.as_slice()).read_to_string(&mut read).unwrap();
        assert_eq!(read, small.script(&attempt));
        assert!(read.starts_with(&format!("#!/bin/sh\n# immutable-nonce: {NONCE}\n")));

        let noise: Vec<String> = (0..600).map(|index| Fingerprint::of(index.to_string()).to_string()).collect();
        let problem = user_data(&build(&noise.join("\n")), &attempt).map(drop).unwrap_err();
        assert!(problem.contains("bytes: it does not fit") && problem.contains("artifact store"), "{problem}");
    }
}
