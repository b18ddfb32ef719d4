//! Rewrites OpenMetrics text in the older text format of Prometheus, version 0.0.4.
//!
//! Serves `/metrics` of the admin API, for scrapers that ask for the older format. Both texts have the same samples.

use std::fmt::Write;

/// Returns OpenMetrics text in the older format.
///
/// In the older format, the family of a counter has the name of its samples, with `_total`, and there are neither units
/// nor an end mark. Sample lines are the same in both formats.
pub fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // OpenMetrics writes the HELP line of a family before its TYPE line.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let end = if kind == "counter" { "_total" } else { "" };
            let help = help.take().unwrap_or_default();
            // Writing to a String does not fail.
            let _ = writeln!(text, "# HELP {name}{end} {help}\n# TYPE {name}{end} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_families_end_in_total_and_units_and_the_end_mark_are_left_out() {
        let open_metrics = "# HELP imd_a Help of a.\n# TYPE imd_a counter\nimd_a_total{x=\"# TYPE\"} 1\n\
             # HELP imd_b_seconds Help of b.\n# TYPE imd_b_seconds histogram\n# UNIT imd_b_seconds seconds\n\
             imd_b_seconds_bucket{le=\"+Inf\"} 2\n# HELP imd_c Help of c.\n# TYPE imd_c gauge\nimd_c 1.5\n# EOF\n";
        let expected = "# HELP imd_a_total Help of a.\n# TYPE imd_a_total counter\nimd_a_total{x=\"# TYPE\"} 1\n\
             # HELP imd_b_seconds Help of b.\n# TYPE imd_b_seconds histogram\nimd_b_seconds_bucket{le=\"+Inf\"} 2\n\
             # HELP imd_c Help of c.\n# TYPE imd_c gauge\nimd_c 1.5\n";
        assert_eq!(classic(open_metrics), expected);
    }
}
