//! The guide cannot rot: each piece of its code is in these files, word for word, and it names every clause.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use immutable_core::testkit::conformance::{Clause, clauses};

const GUIDE: &str = include_str!("../../docs/writing-a-provider.md");

/// The pieces of Rust in the guide.
fn pieces() -> impl Iterator<Item = &'static str> {
    GUIDE.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default())
}

/// Code without the white space at the ends of its lines.
fn lines(code: &str) -> Vec<&str> {
    code.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

fn sources(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| {
        if path.is_dir() { sources(&path) } else { vec![fs::read_to_string(path).unwrap()] }
    };
    entries.flat_map(read).collect()
}

#[test]
fn every_piece_of_the_guide_is_code_that_is_tested() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/writing_a_provider"));
    let sources: Vec<_> = sources.iter().map(|source| lines(source)).collect();
    assert!(pieces().count() >= 8, "the guide shows {} pieces of code", pieces().count());
    for piece in pieces() {
        let wanted = lines(piece);
        let is_there = sources.iter().any(|source| source.windows(wanted.len()).any(|window| window == wanted));
        assert!(is_there && !wanted.is_empty(), "not in tests/writing_a_provider:\n{piece}");
    }
}

#[test]
fn the_guide_names_every_clause_and_no_other() {
    let known: BTreeSet<String> = clauses().map(Clause::id).collect();
    let is_id = |word: &&str| {
        let digits = word.strip_prefix(['G', 'I', 'P', 'H', 'T', 'M']);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let words = GUIDE.split(|letter: char| !letter.is_ascii_alphanumeric());
    let named: BTreeSet<String> = words.filter(is_id).map(str::to_owned).collect();
    assert_eq!(named, known);
}

#[test]
fn every_file_that_the_guide_links_is_there() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let targets = GUIDE.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let local: Vec<_> = targets.filter(|target| !target.is_empty() && !target.contains("://")).collect();
    assert!(local.len() > 5, "{local:?}");
    for target in local {
        assert!(docs.join(target).exists(), "the guide links {target}");
    }
}
