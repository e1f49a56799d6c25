//! Which of the two forms of metrics a scraper wants, by its `Accept` (RFC 9110 §12.5.1). No io.

/// Whether `OpenMetrics` is wanted at least as much as Prometheus' own text. Who says nothing of it gets text.
pub(super) fn prefers_openmetrics(accept: &str) -> bool {
    let (mut openmetrics, mut text) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let parameter = |part: &str, name: &str| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
        };
        let (mut quality, mut version) = (1.0_f64, None);
        for part in parts {
            if let Some(q) = parameter(part, "q") {
                quality = q.parse().unwrap_or(0.0);
            }
            version = parameter(part, "version").or(version);
        }
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            // An older one differs.
            if version.is_none_or(|version| version == "1.0.0") {
                openmetrics = quality.max(openmetrics);
            }
        } else if ["text/plain", "text/*"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            text = quality.max(text);
        }
    }
    openmetrics > 0.0 && openmetrics >= text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_is_wanted_most() {
        // That of Prometheus 2.42, of 3, and of curl, a browser, and who wants the older one.
        for (accept, is_openmetrics) in [
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5, text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                true,
            ),
            ("*/*", false),
            ("", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("text/plain;version=0.0.4, application/openmetrics-text; q=0.5", false),
            ("application/openmetrics-text; version=0.0.1", false),
            ("application/openmetrics-text; q=0", false),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", true),
        ] {
            assert_eq!(prefers_openmetrics(accept), is_openmetrics, "{accept}");
        }
    }
}
