//! The tags of a scale set beside its record.

use immutable_core::model::Fingerprint;

/// The fingerprint of the id of the image. The id itself may be too long for a tag.
pub(super) const IMAGE_ID: &str = "immutable-image-id";

/// Which members are dead and have been replaced, though they still are members: what tells them from others, with commas.
pub(super) const REPLACED: &str = "immutable-replaced";

/// So many members that are dead can be replaced before they are ended: their names fit into one tag.
pub(super) const MOST_REPLACED: usize = 25;

/// The tag of an image, by its id, which Azure tells in letters of either size.
pub(super) fn image(id: &str) -> String {
    Fingerprint::of(id.to_ascii_lowercase()).to_string()
}
