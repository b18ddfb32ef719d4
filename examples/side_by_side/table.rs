//! What the rounds of a row come to.

use std::io::Write as _;

use crate::load::Sample;
use crate::rows::{Goal, Line, Row};

/// How the table is printed.
#[derive(Clone, Copy)]
pub struct Table {
    pub is_markdown: bool,
}

const HEAD: [&str; 8] = [
    "work",
    "",
    "baseline",
    "imd",
    "ratio",
    "goal",
    "CPU us/op",
    "busy",
];

impl Table {
    pub fn head(self) {
        self.print(&HEAD.map(str::to_owned));
        if self.is_markdown {
            println!("|{}", "---|".repeat(HEAD.len()));
        }
    }

    /// A line for each figure of a row: the medians of its rounds.
    pub fn row(self, row: &Row, baseline: &[Sample], imd: &[Sample]) {
        for (n, line) in row.lines.iter().enumerate() {
            let value = |samples: &[Sample]| median(samples, |sample| sample.values[n]);
            let (base, ours) = (value(baseline), value(imd));
            let ratio = ours / base;
            let cpu = |samples| median(samples, |sample| sample.cpu);
            let busy = |samples| median(samples, |sample| sample.busy * 100.0);
            self.print(&[
                row.work.clone(),
                line.unit.to_owned(),
                number(base),
                number(ours),
                format!("{ratio:.2}"),
                goal(line, ratio),
                format!("{:.2} / {:.2}", cpu(baseline), cpu(imd)),
                format!("{:.0} / {:.0} %", busy(baseline), busy(imd)),
            ]);
        }
    }

    fn print(self, cells: &[String; HEAD.len()]) {
        if self.is_markdown {
            println!("| {} |", cells.join(" | "));
        } else {
            let [work, unit, base, ours, ratio, goal, cpu, busy] = cells;
            println!(
                "{work:<44} {unit:<14} {base:>13} {ours:>13} {ratio:>6} {goal:>14} {cpu:>15} {busy:>10}"
            );
        }
        // A row takes a while: it is shown when it is there. Who does not read it does not want it.
        let _ = std::io::stdout().flush();
    }
}

fn goal(line: &Line, ratio: f64) -> String {
    let wanted = match line.goal {
        Goal::AtLeast(least) => format!(">= {least}"),
        Goal::AtMost(most) => format!("<= {most}"),
    };
    let met = if line.goal.is_met(ratio) {
        "met"
    } else {
        "missed"
    };
    format!("{wanted} {met}")
}

/// Three digits that count, with a mark at the thousands.
fn number(value: f64) -> String {
    if value < 1_000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut marked = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            marked.push(',');
        }
        marked.push(digit);
    }
    marked
}

pub fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
