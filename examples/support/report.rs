//! What rollouts came to, as a table for people.

use std::fmt::Write;
use std::time::Duration;

use super::counts::Counts;

/// One rollout.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was tried.
    pub(crate) name: String,
    /// How it ended.
    pub(crate) outcome: String,
    /// How long it took.
    pub(crate) duration: Duration,
    /// What the clients saw meanwhile.
    pub(crate) counts: Counts,
    /// The least number of members in use.
    pub(crate) least_serving: usize,
    /// The greatest number of instances that existed, ending ones included.
    pub(crate) peak_instances: usize,
}

const HEADINGS: [&str; COLUMNS] =
    ["rollout", "outcome", "time", "requests", "failed", "p50", "p99", "least serving", "peak", "answered by"];
const COLUMNS: usize = 10;
/// Texts are aligned to the left, figures to the right.
const TEXTS: [usize; 3] = [0, 1, COLUMNS - 1];

/// The rows as lines of aligned columns, with a heading, and below them what failed and how.
pub(crate) fn table(rows: &[Row]) -> String {
    let lines: Vec<_> = std::iter::once(HEADINGS.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut table = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if TEXTS.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let text = cells.collect::<Vec<_>>().join("  ");
        table.push_str(text.trim_end());
        table.push('\n');
    }
    for row in rows {
        for (failure, count) in &row.counts.failures {
            // Writing to a text cannot fail.
            let _ = writeln!(table, "{}: {count} failed: {failure}", row.name);
        }
    }
    table
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let counts = &row.counts;
    let answered = counts.releases.iter().map(|(version, counts)| format!("{version}: {}", counts.ok + counts.failed));
    [
        row.name.clone(),
        row.outcome.clone(),
        format!("{:.2} s", row.duration.as_secs_f64()),
        (counts.ok + counts.failed()).to_string(),
        counts.failed().to_string(),
        millis(counts.latency.percentile(50)),
        millis(counts.latency.percentile(99)),
        row.least_serving.to_string(),
        row.peak_instances.to_string(),
        answered.collect::<Vec<_>>().join(", "),
    ]
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
