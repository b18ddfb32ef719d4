//! The form fields of a request, parsed as the original stack parses them: with the rules of `ParseForm` and `ParseInt`
//! of Go's standard library.
//!
//! Serves the handlers in the module `api`. A malformed field is left out, as in Go; only a field that a handler needs
//! can make a request fail.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::http::{HeaderMap, header};

use crate::proto::Code;
use crate::service::Refusal;

/// The only content type whose body is parsed as fields.
const FORM: &str = "application/x-www-form-urlencoded";

/// The fields of a request. A field in the body has precedence over one in the query, and the first of several fields
/// of one name over the others.
#[derive(Debug)]
pub(super) struct Fields {
    values: HashMap<String, String>,
    /// Why the body was not parsed, in words for the client. None if it was parsed, or was empty.
    unread: Option<String>,
}

impl Fields {
    /// Parses the fields of a query, and those of a body if its content type is that of a form.
    pub(super) fn of(headers: &HeaderMap, query: &str, body: &[u8]) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE);
        let is_form = content_type.is_some_and(|content_type| is_form(content_type.as_bytes()));
        let mut values = HashMap::new();
        let pairs = is_form.then(|| pairs(body)).into_iter().flatten();
        for (name, value) in pairs.chain(self::pairs(query.as_bytes())) {
            values
                .entry(name.into_owned())
                .or_insert_with(|| value.into_owned());
        }
        let unread = (!is_form && !body.is_empty()).then(|| match content_type {
            None => format!("its body has no content-type, and {FORM} was expected"),
            Some(_) => format!("its body has another content-type than {FORM}"),
        });
        Fields { values, unread }
    }

    /// Returns the value of a field, or an empty text if the request does not have the field.
    pub(super) fn text(&self, name: &str) -> String {
        self.values.get(name).cloned().unwrap_or_default()
    }

    /// Returns the value of a field that is an id: a positive decimal number.
    ///
    /// # Errors
    ///
    /// [`Code::RequestErr`] (10001), when the field is missing or is not a positive number of 64 bits. The text of the
    /// refusal says which, and names the content type if that is why the field is missing.
    pub(super) fn id<T: From<i64>>(&self, name: &str) -> Result<T, Refusal> {
        let value = self.values.get(name);
        let parsed = value.and_then(|value| value.parse().ok());
        let id_if_positive = parsed.filter(|&id: &i64| id > 0);
        id_if_positive.map(T::from).ok_or_else(|| {
            let why = match (value, &self.unread) {
                (None, Some(unread)) => format!("{name} is missing: {unread}"),
                (None, None) => format!("{name} is missing"),
                (Some(_), _) => format!("{name} is no positive number"),
            };
            Refusal::because(Code::RequestErr, why)
        })
    }
}

/// Returns whether a content type is that of a form, whatever its parameters are.
fn is_form(content_type: &[u8]) -> bool {
    let content_type = content_type
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    content_type
        .trim_ascii()
        .eq_ignore_ascii_case(FORM.as_bytes())
}

/// Decodes the pairs of an encoded form. A pair with a semicolon or an incomplete escape is skipped, as in Go.
fn pairs(form: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let is_well_formed = |pair: &&[u8]| !pair.contains(&b';') && has_whole_escapes(pair);
    form.split(|&byte| byte == b'&')
        .filter(is_well_formed)
        .flat_map(form_urlencoded::parse)
}

/// Returns whether each `%` is followed by two hexadecimal digits.
fn has_whole_escapes(text: &[u8]) -> bool {
    let mut escapes = text.split(|&byte| byte == b'%').skip(1);
    escapes.all(|rest| {
        let digits = rest.first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn fields(content_type: Option<&'static str>, query: &str, body: &str) -> Fields {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        Fields::of(&headers, query, body.as_bytes())
    }

    #[test]
    fn a_body_is_parsed_only_with_the_content_type_of_a_form() {
        for content_type in [
            "application/x-www-form-urlencoded",
            "application/x-www-form-urlencoded; charset=UTF-8",
            "application/x-www-form-urlencoded;",
            " Application/X-WWW-Form-Urlencoded ;a=b",
        ] {
            assert_eq!(
                fields(Some(content_type), "", "uid=7").id::<i64>("uid"),
                Ok(7),
                "{content_type}"
            );
        }
        for content_type in [
            None,
            Some(""),
            Some("text/plain"),
            Some("application/json"),
            Some("multipart/form-data; boundary=x"),
            Some("application/x-www-form-urlencoded2"),
            Some("application/octet-stream, application/x-www-form-urlencoded"),
        ] {
            let fields = fields(content_type, "pw=x", "uid=7&pw=y");
            let refusal = fields.id::<i64>("uid").unwrap_err();
            assert_eq!(refusal.code, Code::RequestErr, "{content_type:?}");
            assert!(refusal.text.contains("content-type"), "{}", refusal.text);
            assert_eq!(fields.text("pw"), "x", "{content_type:?}");
        }
    }

    #[test]
    fn the_body_has_precedence_over_the_query_and_the_first_value_over_later_ones() {
        let fields = fields(Some(FORM), "uid=1&pw=q&name=n", "uid=2&uid=3&pw=");
        assert_eq!(fields.id::<i64>("uid"), Ok(2));
        assert_eq!(
            (fields.text("pw"), fields.text("name")),
            (String::new(), "n".to_owned())
        );
    }

    #[test]
    fn a_number_is_parsed_as_go_parses_it() {
        for (text, id) in [
            ("8", 8),
            ("%2B8", 8),
            ("0008", 8),
            ("%38", 8),
            ("9223372036854775807", i64::MAX),
        ] {
            let read = fields(None, &format!("uid={text}"), "").id::<i64>("uid");
            assert_eq!(read, Ok(id), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "-0",
            "+8",
            "%208",
            "8%20",
            "8+",
            "%098",
            "8%0A",
            "1_000",
            "0x8",
            "8.0",
            "8e0",
            "a",
            "%D9%A8",
            "9223372036854775808",
            "%2B",
            "%2B%2B8",
            "8%00",
        ] {
            let read = fields(None, &format!("uid={text}"), "").id::<i64>("uid");
            let refusal = read.expect_err(text);
            assert_eq!(refusal.code, Code::RequestErr, "{text}");
        }
    }

    #[test]
    fn a_malformed_pair_is_skipped_and_the_other_pairs_are_used() {
        for query in [
            "uid=%zz&uid=7",
            "uid=1%&uid=7",
            "uid=1%2&uid=7",
            "uid=1;a=b&uid=7",
            "u%69d=7&%zz=1",
            "&&uid=7&",
            "=1&uid=7",
        ] {
            assert_eq!(fields(None, query, "").id::<i64>("uid"), Ok(7), "{query}");
        }
        assert!(fields(None, "uid=7;pw=x", "").id::<i64>("uid").is_err());
        assert_eq!(fields(None, "pw=a%3Bb+c%26", "").text("pw"), "a;b c&");
        assert_eq!(fields(None, "pw=%FFx", "").text("pw"), "\u{fffd}x");
    }
}
