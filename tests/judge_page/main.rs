//! What `docs/canary-judge.md` shows: its plots, its table and its code, and that they are those of the judge as it is.
//!
//! `cargo xtask plots` writes the plots and the table anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod plots;
mod rollout;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use immutable_core::analysis::{Analysis, Compared, Judge, Judgement, MannWhitney, Threshold, Traffic, power};
use immutable_core::model::MetricName;

/// What the page begins with.
fn analysis() -> Result<Analysis, Box<dyn std::error::Error>> {
    let analysis = Analysis::of([
        Compared::new("errors".parse()?).hard_stop(0.5, Duration::from_secs(30)),
        Compared::new("latency_over_1s".parse()?).weight(0.5).tolerance(2.0),
    ])
    .minimum_time(Duration::from_mins(10))
    .minimum_requests(5_000)
    .deadline(Duration::from_hours(2));
    Ok(analysis)
}

/// What the page says of the judges of other tools.
fn classic() -> Result<[Analysis; 2], Box<dyn std::error::Error>> {
    let errors = Compared::new("errors".parse()?).acceptable(0.01);
    let argo = Analysis::of([errors.clone()])
        .interval(Duration::from_mins(1))
        .judge_by(Judge::Threshold(Threshold::of(30).failure_limit(4)));
    let kayenta = Analysis::of([errors])
        .interval(Duration::from_mins(1))
        .minimum_time(Duration::from_hours(1))
        .judge_by(Judge::MannWhitney(MannWhitney::new()));
    Ok([argo, kayenta])
}

#[test]
fn the_code_of_the_page_is_code_that_builds() {
    let page = fs::read_to_string(docs("canary-judge.md")).unwrap();
    let blocks: Vec<&str> = page.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 2, "the page has its code in blocks of rust");
    for block in blocks {
        let indented: Vec<_> = block.lines().map(|line| format!("    {line}")).collect();
        assert!(include_str!("main.rs").contains(&indented.join("\n")), "not in this file:\n{block}");
    }
    assert!(analysis().is_ok() && classic().is_ok());
}

#[test]
fn bursts_of_the_canary_alone_are_for_a_longer_interval_or_a_hard_stop() {
    let errors = || Compared::new("errors".parse().unwrap());
    let (short, long) = (Duration::from_secs(10), Duration::from_mins(2));
    let failed_and_passed = |analysis: Analysis, interval| {
        let analysis = analysis.interval(interval);
        let judgements: Vec<_> = (0..100).map(|seed| rollout::burst(&analysis, interval, seed)).collect();
        let count = |is: fn(&&Judgement) -> bool| judgements.iter().filter(is).count();
        (count(|is| matches!(is, Judgement::Fail { .. })), count(|is| matches!(is, Judgement::Pass { .. })))
    };
    let plain = failed_and_passed(Analysis::of([errors()]), short);
    assert!(plain.0 == 0 && (20..45).contains(&plain.1), "{plain:?}: none is failed, about a third pass");
    let longer = failed_and_passed(Analysis::of([errors()]), long);
    assert!(longer.1 <= 5, "{longer:?}: β holds again");
    let stopped = failed_and_passed(Analysis::of([errors().hard_stop(0.1, short)]), short);
    assert!(stopped.0 >= 90, "{stopped:?}: nearly all are stopped");
}

#[test]
fn the_plots_are_those_of_the_judge() {
    for (name, times) in [("good", 1.0), ("bad", 2.0)] {
        is_up_to_date(&format!("canary-judge/{name}.svg"), plots::evidence(times));
    }
}

#[test]
fn the_table_of_what_is_seen_is_that_of_the_judge() {
    let (name, begin, end) = ("canary-judge.md", "<!-- power -->\n", "<!-- end of power -->");
    let page = fs::read_to_string(docs(name)).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    is_up_to_date(name, format!("{before}{begin}{}{end}{after}", table()));
}

/// What is seen of one metric at the default settings.
fn table() -> String {
    let errors: MetricName = "errors".parse().unwrap();
    let head = "| requests per second to the canary | usual share | ×1.5 | ×2 | ×5 | ×20 | a good release passes in |\n|---|---|---|---|---|---|---|\n";
    let rows = [(1.0, 0.01), (10.0, 0.001), (10.0, 0.01), (100.0, 0.001), (100.0, 0.01)].map(|(rate, share)| {
        let analysis = Analysis::of([Compared::new(errors.clone())]);
        let power = power(&analysis, &Traffic::of(rate).usual(errors.clone(), share));
        let times = [1.5, 2.0, 5.0, 20.0].map(|times| power.sees(times));
        let cells = times.into_iter().chain([power.passes()]).map(|time| time.map_or("–".to_owned(), minutes));
        format!("| {rate} | {} % | {} |\n", share * 100.0, cells.collect::<Vec<_>>().join(" | "))
    });
    head.to_owned() + &rows.concat()
}

fn minutes(time: Duration) -> String {
    format!("{:.1} min", time.as_secs_f64() / 60.0)
}

/// Holds a file to what it should be; or writes it, if that is what was asked for.
fn is_up_to_date(name: &str, expected: String) {
    let path = docs(name);
    if std::env::var_os("IMMUTABLE_WRITE_PLOTS").is_some() {
        fs::write(path, expected).unwrap();
        return;
    }
    let is = fs::read_to_string(&path).unwrap_or_default() == expected;
    assert!(is, "{} is not what the judge gives: run `cargo xtask plots`", path.display());
}

fn docs(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}
