//! The table of results: the medians of each row's rounds.

use std::io::Write as _;

use imd::load::grouped;

use crate::load::{Sample, at_share};
use crate::rows::{Goal, Line, Row};

/// How the table is printed.
#[derive(Clone, Copy)]
pub struct Table {
    pub is_markdown: bool,
}

const HEAD: [&str; 10] = [
    "row",
    "work",
    "figure",
    "baseline",
    "imd",
    "ratio",
    "goal",
    "CPU us/op",
    "server busy %",
    "load busy %",
];

impl Table {
    /// Prints the heads of the columns.
    pub fn head(self) {
        self.print(&HEAD.map(str::to_owned));
        if self.is_markdown {
            println!("|{}", "---|".repeat(HEAD.len()));
        }
    }

    /// Prints a line for each figure of a row, with the medians of its rounds.
    pub fn row(self, row: &Row, baseline: &[Sample], imd: &[Sample]) {
        for (n, line) in row.lines.iter().enumerate() {
            let of = |samples: &[Sample], value: &dyn Fn(&Sample) -> f64| {
                at_share(samples.iter().map(value).collect(), 0.5)
            };
            let value = |samples| of(samples, &|sample| sample.values[n]);
            let (base, ours) = (value(baseline), value(imd));
            let ratio = ours / base;
            let cpu = |samples| of(samples, &|sample| sample.cpu);
            let busy = |side: usize| {
                let busy = |samples| of(samples, &|sample| sample.busy[side] * 100.0);
                format!("{:.0} / {:.0}", busy(baseline), busy(imd))
            };
            self.print(&[
                row.name.to_owned(),
                row.work.clone(),
                line.unit.to_owned(),
                number(base),
                number(ours),
                format!("{ratio:.2}"),
                goal(line, ours, ratio),
                format!("{:.2} / {:.2}", cpu(baseline), cpu(imd)),
                busy(0),
                busy(1),
            ]);
        }
    }

    /// Prints a row that could not be measured.
    pub fn missing(self, row: &Row, why: &str) {
        let mut cells = HEAD.map(|_| String::new());
        cells[0] = row.name.to_owned();
        cells[1] = row.work.clone();
        cells[3] = why.to_owned();
        self.print(&cells);
    }

    fn print(self, cells: &[String; HEAD.len()]) {
        if self.is_markdown {
            println!("| {} |", cells.join(" | "));
        } else {
            let [
                row,
                work,
                figure,
                base,
                ours,
                ratio,
                goal,
                cpu,
                server,
                load,
            ] = cells;
            println!(
                "{row:<15} {work:<42} {figure:<12} {base:>13} {ours:>11} {ratio:>6} {goal:>14} \
                 {cpu:>15} {server:>13} {load:>13}"
            );
        }
        // Each row takes a while, so it is shown as soon as it is measured. If nobody reads stdout, that is no error.
        let _ = std::io::stdout().flush();
    }
}

fn goal(line: &Line, ours: f64, ratio: f64) -> String {
    let (wanted, is_met) = match line.goal {
        Goal::AtLeast(least) => (format!(">= {least}"), ratio >= least),
        Goal::AtMost(most) => (format!("<= {most}"), ratio <= most),
        Goal::Below(most) => (format!("{most}"), ours <= most),
    };
    format!("{wanted} {}", if is_met { "met" } else { "missed" })
}

/// Formats a figure with at least three significant digits.
fn number(value: f64) -> String {
    if value < 1_000.0 {
        format!("{value:.1}")
    } else {
        grouped(value)
    }
}
