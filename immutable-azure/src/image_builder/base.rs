//! What an image starts from.

use immutable_core::model::{Fingerprint, Image, ImageId, ImageLabels};
use serde_json::{Value, json};

use crate::config::{ConfigError, is_resource};

/// What an image can start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base<'a> {
    /// A version in a gallery, by its id.
    Gallery(&'a str),
    /// A version in the marketplace.
    Marketplace { publisher: &'a str, offer: &'a str, sku: &'a str, version: &'a str },
}

impl<'a> Base<'a> {
    /// What the id of an image names, if it is one of Azure, and one image: `latest` is another one tomorrow.
    pub(super) fn read(id: &'a str) -> Option<Self> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = |part: &str| {
            let usual = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(usual)
        };
        if id.starts_with('/') {
            let kind = ["galleries", "images", "versions"];
            let number = id.rsplit('/').next()?;
            let is_version = number.split('.').count() == 3 && number.split('.').all(is_number);
            return (is_version && is_resource(id, "Microsoft.Compute", Some(&kind))).then_some(Self::Gallery(id));
        }
        match id.split(':').collect::<Vec<_>>()[..] {
            [publisher, offer, sku, version]
                if [publisher, offer, sku].into_iter().all(is_name) && version.split('.').all(is_number) =>
            {
                Some(Self::Marketplace { publisher, offer, sku, version })
            }
            _ => None,
        }
    }

    /// How a machine names it.
    pub(super) fn reference(&self) -> Value {
        match *self {
            Self::Gallery(id) => json!({ "id": id }),
            Self::Marketplace { publisher, offer, sku, version } => {
                json!({ "publisher": publisher, "offer": offer, "sku": sku, "version": version })
            }
        }
    }
}

/// An image that was made elsewhere.
pub(super) fn foreign(id: &str) -> Result<Image, ConfigError> {
    let wrong = || {
        let problem = format!(
            "{id:?} must be one version, \"publisher:offer:sku:1.2.3\" or \"/subscriptions/.../galleries/.../images/.../versions/1.2.3\", and \
             never the latest"
        );
        ConfigError::new("base", problem)
    };
    Base::read(id).ok_or_else(wrong)?;
    let labels = ImageLabels { version: id.to_owned(), commit: None, built_at: jiff::Timestamp::UNIX_EPOCH };
    let fingerprint = Fingerprint::of(id);
    Ok(Image { id: ImageId::new(id).map_err(|_| wrong())?, fingerprint, parents: Vec::new(), labels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_one_version_and_never_the_latest() {
        let version = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/g/providers/Microsoft.Compute/galleries/golden/images/debian/versions/1.2.3";
        for id in [version, "debian:debian-12:12-gen2:0.20260101.1"] {
            let base = foreign(id).unwrap();
            assert_eq!((base.id.as_str(), base.fingerprint), (id, Fingerprint::of(id)));
        }
        let definition = version.trim_end_matches("/versions/1.2.3");
        for wrong in [
            "",
            "debian-12",
            "debian:debian-12:12-gen2:latest",
            "debian:debian-12:12-gen2:",
            "debian:debian-12:12-gen2",
            "debian::12-gen2:1.2.3",
            definition,
            &format!("{definition}/versions/latest"),
            &version.replace("Microsoft.Compute", "Microsoft.Network"),
        ] {
            assert!(foreign(wrong).unwrap_err().to_string().starts_with("base: "), "{wrong}");
        }
    }
}
