//! Evidence over time, drawn.

use immutable_core::analysis::{Analysis, Compared, Judgement};
use plotters::prelude::*;

use crate::rollout::{Course, watch};

/// How many rollouts are in one plot.
const ROLLOUTS: u64 = 20;

const AGAINST: RGBColor = RGBColor(0xc0, 0x39, 0x2b);
const FOR: RGBColor = RGBColor(0x1e, 0x84, 0x49);

/// A plot of twenty rollouts of a release with so many times the usual errors.
pub(crate) fn evidence(times: f64) -> String {
    let analysis = Analysis::of([Compared::new("errors".parse().unwrap())]);
    let rollouts: Vec<(Course, Judgement)> = (0..ROLLOUTS).map(|seed| watch(&analysis, times, seed)).collect();
    let mut svg = String::new();
    draw(SVGBackend::with_string(&mut svg, (840, 420)), times, &rollouts).unwrap();
    svg
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(svg: SVGBackend<'_>, times: f64, rollouts: &[(Course, Judgement)]) -> Drawn {
    let area = svg.into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .caption(caption(times, rollouts), ("sans-serif", 18))
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0f64..60.0, (0.01..1_000f64).log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_desc("minutes with 20 requests per second to either fleet")
        .y_desc("evidence")
        .y_label_formatter(&|value| format!("{value}"))
        .draw()?;
    for (course, _) in rollouts {
        let within = |evidence: f64| evidence.clamp(0.01, 1_000.0);
        // A point for each half minute, and the last one, is as much as can be seen.
        let last = course.len() - 1;
        let points =
            || course.iter().enumerate().filter(|(index, _)| index % 3 == 0 || *index == last).map(|(_, point)| *point);
        chart.draw_series(LineSeries::new(points().map(|(at, against, _)| (at, within(against))), AGAINST.mix(0.6)))?;
        chart.draw_series(LineSeries::new(points().map(|(at, _, good)| (at, within(good))), FOR.mix(0.6)))?;
    }
    for (bound, colour, words) in [(100.0, AGAINST, "fails (1 / α)"), (20.0, FOR, "may pass (1 / β)")] {
        chart.draw_series(DashedLineSeries::new([(0.0, bound), (60.0, bound)], 6, 4, colour.stroke_width(2)))?;
        chart.draw_series([Text::new(words, (49.0, bound * 1.8), ("sans-serif", 14).into_font().color(&colour))])?;
    }
    area.present()?;
    Ok(())
}

fn caption(times: f64, rollouts: &[(Course, Judgement)]) -> String {
    let count = |is: fn(&Judgement) -> bool| rollouts.iter().filter(|(_, judgement)| is(judgement)).count();
    let failed = count(|judgement| matches!(judgement, Judgement::Fail { .. }));
    let passed = count(|judgement| matches!(judgement, Judgement::Pass { .. }));
    let release =
        if times > 1.0 { format!("{times} times the errors of before") } else { "as many errors as before".to_owned() };
    format!("{} releases with {release}: {failed} fail, {passed} pass", rollouts.len())
}
