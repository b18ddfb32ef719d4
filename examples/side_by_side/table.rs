//! The table of results: the medians of each row's rounds, and once more those that miss their goals.
//!
//! Serves `main`. A row is printed as soon as it is measured. Latencies are those of whole runs: a percentile is taken over
//! all messages of a round, and the median of the rounds counts.

use std::io::Write as _;

use imd::load::{Percentiles, grouped};

use crate::load::{Sample, at_share};
use crate::rows::{Goal, Row};

/// The heads of the columns, and how wide they are where the table is not markdown. Where two figures stand in a cell, the
/// neighbour's comes first.
const COLUMNS: [(&str, usize); 13] = [
    ("row", 15),
    ("work", 68),
    ("figure", 13),
    ("neighbour", 12),
    ("imd", 10),
    ("ratio", 6),
    ("goal", 14),
    ("p50 us", 17),
    ("p99 us", 17),
    ("p99.9 us", 19),
    ("CPU us/op", 15),
    ("server busy %", 13),
    ("load busy %", 11),
];

type Cells = [String; COLUMNS.len()];

/// The table, as far as it was printed.
pub struct Table {
    is_markdown: bool,
    /// The lines whose goals were missed.
    missed: Vec<Cells>,
}

impl Table {
    /// Prints the heads of the columns.
    pub fn begin(is_markdown: bool) -> Table {
        let table = Table {
            is_markdown,
            missed: Vec::new(),
        };
        table.head();
        table
    }

    fn head(&self) {
        self.print(&COLUMNS.map(|(head, _)| head.to_owned()));
        if self.is_markdown {
            println!("|{}", "---|".repeat(COLUMNS.len()));
        }
    }

    /// Prints a line for each figure of a row, with the medians of its rounds.
    pub fn row(&mut self, row: &Row, neighbour: &[Sample], imd: &[Sample]) {
        let both = |value: &dyn Fn(&Sample) -> f64| {
            [neighbour, imd].map(|samples| at_share(samples.iter().map(value).collect(), 0.5))
        };
        let cell = |value: &dyn Fn(&Sample) -> f64, format: fn(f64) -> String| {
            both(value).map(format).join(" / ")
        };
        let latency = |of: fn(Percentiles) -> f64| {
            cell(&|it| it.latency.percentiles().map_or(f64::NAN, of), number)
        };
        let percent = |share: f64| shown(share, |share| format!("{:.0}", share * 100.0));
        let micros = |cpu| shown(cpu, |cpu| format!("{cpu:.2}"));
        for (n, line) in row.lines.iter().enumerate() {
            let [base, ours] = both(&|sample| sample.values[n]);
            let ratio = ours / base;
            let (goal, is_missed) = judge(line.goal, ours, ratio);
            let cells = [
                row.name.to_owned(),
                row.work.clone(),
                line.unit.to_owned(),
                number(base),
                number(ours),
                format!("{ratio:.2}"),
                goal,
                latency(|it| it.p50),
                latency(|it| it.p99),
                latency(|it| it.p999),
                cell(&|it| it.cpu, micros),
                cell(&|it| it.busy[0], percent),
                cell(&|it| it.busy[1], percent),
            ];
            self.print(&cells);
            if is_missed {
                self.missed.push(cells);
            }
        }
    }

    /// Prints a row that could not be measured.
    pub fn missing(&self, row: &Row, why: &str) {
        let mut cells = COLUMNS.map(|_| String::new());
        cells[0] = row.name.to_owned();
        cells[1] = row.work.clone();
        cells[3] = why.to_owned();
        self.print(&cells);
    }

    /// Prints the lines whose goals were missed, under a heading of their own.
    pub fn end(self) {
        let heading = if self.is_markdown {
            "### Missed"
        } else {
            "Missed"
        };
        println!("\n{heading}\n");
        if self.missed.is_empty() {
            println!("No goal was missed.");
            return;
        }
        self.head();
        self.missed.iter().for_each(|cells| self.print(cells));
    }

    fn print(&self, cells: &Cells) {
        if self.is_markdown {
            println!("| {} |", cells.join(" | "));
        } else {
            let mut line = String::new();
            for (n, (cell, (_, width))) in cells.iter().zip(COLUMNS).enumerate() {
                line += &match n {
                    0..3 => format!("{cell:<width$} "),
                    _ => format!("{cell:>width$} "),
                };
            }
            println!("{}", line.trim_end());
        }
        // Each row takes a while, so it is shown as soon as it is measured. If nobody reads stdout, that is no error.
        let _ = std::io::stdout().flush();
    }
}

/// Returns a goal with the judgement of a figure, and whether it was missed.
fn judge(goal: Goal, ours: f64, ratio: f64) -> (String, bool) {
    let (wanted, is_met) = match goal {
        Goal::AtLeast(least) => (format!(">= {least}"), ratio >= least),
        Goal::AtMost(most) => (format!("<= {most}"), ratio <= most),
        Goal::Below(most) => (format!("< {most}"), ours < most),
        // The neighbour's figure is that of the ratio.
        Goal::AtMostMore(more) => (format!("<= +{more}"), ours - ours / ratio <= more),
        Goal::None => return ("-".into(), false),
    };
    let judgement = if is_met { "met" } else { "missed" };
    (format!("{wanted} {judgement}"), !is_met)
}

/// Formats a figure with at least three significant digits.
fn number(value: f64) -> String {
    shown(value, |value| match value < 1_000.0 {
        true => format!("{value:.1}"),
        false => grouped(value),
    })
}

/// Returns a value in its format, or a dash for one that was not measured.
fn shown(value: f64, format: fn(f64) -> String) -> String {
    if value.is_nan() {
        "-".into()
    } else {
        format(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_not_there_misses_its_goal() {
        assert_eq!(
            judge(Goal::AtLeast(0.9), 1.0, 0.9),
            (">= 0.9 met".into(), false)
        );
        assert_eq!(
            judge(Goal::AtMost(1.3), 1.0, 1.31),
            ("<= 1.3 missed".into(), true)
        );
        assert_eq!(
            judge(Goal::Below(996.0), 1_000.0, 0.1),
            ("< 996 missed".into(), true)
        );
        assert!(judge(Goal::AtLeast(0.9), f64::NAN, f64::NAN).1);
        assert_eq!(judge(Goal::None, 1.0, 0.1), ("-".into(), false));
        assert_eq!([0.25, 1_234.5, f64::NAN].map(number), ["0.2", "1,234", "-"]);
    }
}
