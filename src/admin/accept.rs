//! Chooses the text format of `/metrics` by the `Accept` headers of the request.
//!
//! Serves `metrics`. A request without a preference gets the older format, which every scraper reads.

use axum::http::{HeaderMap, header};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0, served to clients that ask for it.
    OpenMetrics,
    /// Version 0.0.4 of the Prometheus format, which every scraper reads.
    Classic,
}

impl Format {
    /// Returns the value of the `content-type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Returns the format that a request prefers; [`Format::Classic`] if it asks for neither.
    pub fn preferred(headers: &HeaderMap) -> Format {
        let accepts = headers.get_all(header::ACCEPT).iter();
        let accepts = accepts.filter_map(|accept| accept.to_str().ok());
        let ranges: Vec<Range> = accepts
            .flat_map(|accept| accept.split(','))
            .filter_map(Range::read)
            .collect();
        let open = weight(&ranges, "application", "openmetrics-text");
        let classic = weight(&ranges, "text", "plain");
        let is_named = open.exactness == EXACT;
        if open.q > classic.q || (open.q > 0.0 && open.q == classic.q && is_named) {
            Format::OpenMetrics
        } else {
            Format::Classic
        }
    }
}

/// One media range of an `Accept` header, such as `text/*;q=0.5`.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    kind: &'a str,
    subkind: &'a str,
    q: f32,
}

impl<'a> Range<'a> {
    /// Parses a range; `None` if it is malformed or asks for a version that `imd` does not write.
    fn read(text: &'a str) -> Option<Range<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subkind) = parts.next()?.split_once('/')?;
        let mut q = 1.0;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "q" | "Q" => q = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?,
                "version" if subkind.eq_ignore_ascii_case("openmetrics-text") => {
                    // 0.0.1 is the version of the draft of 1.0.0.
                    ["0.0.1", "1.0.0"].contains(&value).then_some(())?;
                }
                _ => {}
            }
        }
        Some(Range { kind, subkind, q })
    }

    /// Returns how exactly the range names a media type; `None` if it does not cover it.
    fn names(&self, kind: &str, subkind: &str) -> Option<u8> {
        match (self.kind, self.subkind) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, sub) if own.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subkind) => {
                Some(EXACT)
            }
            _ => None,
        }
    }
}

/// The exactness of a range that names the media type itself, without a `*`.
const EXACT: u8 = 2;

/// How much a request wants a media type: the exactness of the range that covers it, and its `q`.
#[derive(Debug, Clone, Copy)]
struct Weight {
    exactness: u8,
    q: f32,
}

/// Returns the weight of a media type: the most exact range counts and, of several such, the one with the highest `q`.
fn weight(ranges: &[Range<'_>], kind: &str, subkind: &str) -> Weight {
    let weights = ranges.iter().filter_map(|range| {
        let exactness = range.names(kind, subkind)?;
        let q = range.q;
        Some(Weight { exactness, q })
    });
    let none = Weight {
        exactness: 0,
        q: 0.0,
    };
    weights.fold(none, |best, weight| {
        let is_better = (weight.exactness, weight.q) > (best.exactness, best.q);
        if is_better { weight } else { best }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn preferred(accepts: &[&'static str]) -> Format {
        let accepts = accepts.iter();
        let accepts = accepts.map(|&accept| (header::ACCEPT, HeaderValue::from_static(accept)));
        let mut headers = HeaderMap::new();
        for (name, value) in accepts {
            headers.append(name, value);
        }
        Format::preferred(&headers)
    }

    #[test]
    fn who_does_not_name_openmetrics_is_given_the_older_format() {
        for accept in [
            "text/plain",
            "text/plain; version=0.0.4",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "*/*",
            "text/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/json",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0, */*",
            "application/openmetrics-text;q=0.4, text/plain;q=0.6",
            "application/openmetrics-text; version=2.0.0, text/plain",
            "application/openmetrics-text; q=x",
            "application/openmetrics-text; q=NaN",
            "nonsense",
            "",
        ] {
            assert_eq!(preferred(&[accept]), Format::Classic, "{accept}");
        }
        assert_eq!(preferred(&[]), Format::Classic);
    }

    #[test]
    fn who_asks_for_openmetrics_is_given_it() {
        for accept in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=1.0.0",
            "application/openmetrics-text; version=0.0.1; charset=utf-8",
            "application/openmetrics-text; version=\"1.0.0\"",
            "application/openmetrics-text, text/plain",
            "text/plain, application/openmetrics-text",
            "application/openmetrics-text, */*",
            "application/*",
            "text/plain;q=0.5, application/openmetrics-text;q=0.75",
            "text/plain;q=0, */*",
            // The header that Prometheus sends.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(preferred(&[accept]), Format::OpenMetrics, "{accept}");
        }
        let two = ["text/plain;q=0.1", "application/openmetrics-text;q=0.2"];
        assert_eq!(preferred(&two), Format::OpenMetrics);
    }
}
