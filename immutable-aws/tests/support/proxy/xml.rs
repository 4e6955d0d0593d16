//! Changes in an answer, which otherwise stays byte for byte what it was.

use std::ops::Range;

use roxmltree::{Document, Node};

/// Pieces of a text and what is to stand in their places.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub(super) fn replace(&mut self, node: Node<'_, '_>, text: impl Into<String>) {
        self.0.push((node.range(), text.into()));
    }

    /// Gives the child of this name another text.
    pub(super) fn set(&mut self, node: Node<'_, '_>, name: &str, text: &str) {
        if let Some(child) = child(node, name) {
            self.replace(child, format!("<{name}>{text}</{name}>"));
        }
    }

    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.0.push((at..at, text));
    }

    pub(super) fn apply(mut self, text: &str) -> String {
        // From the end, so that what is still to be changed stays where it is. A piece inside one that goes, goes with it.
        self.0.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let (mut result, mut end) = (String::with_capacity(text.len()), 0);
        for (range, new) in self.0 {
            if range.start >= end {
                result.push_str(&text[end..range.start]);
                result.push_str(&new);
                end = range.end;
            }
        }
        result + &text[end..]
    }
}

/// Changes the answer, if it is a good one in XML.
pub(super) fn edited(text: &str, edit: impl FnOnce(&Document<'_>, &mut Edits)) -> String {
    let mut edits = Edits::default();
    match Document::parse(text) {
        Ok(document) => edit(&document, &mut edits),
        Err(error) => panic!("moto answered with XML that cannot be read: {error}: {text}"),
    }
    edits.apply(text)
}

pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.tag_name().name() == name)
}

/// The text of a child.
pub(super) fn text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text()
}

/// All elements of this name, wherever they are.
pub(super) fn all<'a, 'i>(document: &'a Document<'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    document.descendants().filter(move |node| node.tag_name().name() == name)
}
