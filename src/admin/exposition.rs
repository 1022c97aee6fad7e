//! The text of `/metrics`, in the format that the scraper asked for.
//!
//! `prometheus-client` writes OpenMetrics 1.0. Older scrapers read the
//! Prometheus text format 0.0.4, which has no exemplars, names a counter by its
//! sample (`x_total`) in `TYPE` and `HELP`, and knows fewer types.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// The content type of OpenMetrics 1.0.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of the Prometheus text format.
pub(crate) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The last line of OpenMetrics.
const END: &str = "# EOF\n";

/// Encodes everything in the registry and what `more` appends as OpenMetrics,
/// as `(content type, text)`, in the format that these values of `Accept` ask for.
///
/// # Errors
/// When a metric refuses to be encoded, which no metric of ours does.
pub(crate) fn encode<'a>(
    registry: &Registry,
    more: impl FnOnce(&mut String),
    accept: impl Iterator<Item = &'a str>,
) -> Result<(&'static str, String), std::fmt::Error> {
    let mut encoded = String::new();
    text::encode(&mut encoded, registry)?;
    encoded.truncate(encoded.trim_end_matches(END).len());
    more(&mut encoded);
    encoded.push_str(END);
    if wants_openmetrics(accept) {
        return Ok((OPENMETRICS, encoded));
    }
    Ok((PROMETHEUS, to_prometheus(&encoded)))
}

/// Whether some media range names OpenMetrics and does not refuse it. Weights
/// are not compared: a scraper that can read OpenMetrics gets it, for its
/// exemplars.
fn wants_openmetrics<'a>(mut accept: impl Iterator<Item = &'a str>) -> bool {
    accept.any(|value| {
        value.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let named =
                parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/openmetrics-text"));
            let weight = |part: &str| {
                let (name, weight) = part.split_once('=')?;
                name.trim().eq_ignore_ascii_case("q").then(|| weight.trim().parse::<f32>().ok())?
            };
            named && parts.find_map(weight).is_none_or(|weight| weight > 0.0)
        })
    })
}

/// Rewrites OpenMetrics line by line. `HELP` comes before `TYPE` there, so it
/// waits until the type says what the family is called.
fn to_prometheus(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let description = help.take().and_then(|help| help.split_once(' '));
            if let Some((_, description)) = description {
                // A quote is escaped in an OpenMetrics description only.
                let description = description.replace("\\\"", "\"");
                text.push_str(&format!("# HELP {name}{suffix} {description}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with("# UNIT ") {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

/// A sample without the exemplar that may follow it after ` # `. Label values
/// are skipped first, because they can hold anything.
fn without_exemplar(line: &str) -> &str {
    if line.starts_with('#') {
        return line;
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::exemplar::HistogramWithExemplars;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Unit;

    type Labels = Vec<(String, String)>;

    fn labels(value: &str) -> Labels {
        vec![("tool".to_owned(), value.to_owned())]
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        let calls: Family<Labels, Counter> = Family::default();
        calls.get_or_create(&labels("a\" # {\n\\")).inc();
        registry.register("calls", "Calls", calls);
        let open: Gauge = Gauge::default();
        registry.register_with_unit("open", "Open", Unit::Bytes, open);
        let times = HistogramWithExemplars::new([1.0].into_iter());
        times.observe(0.5, Some(labels("x")), None);
        registry.register("times", "Times", times);
        registry
    }

    fn format_for(accept: &[&str]) -> &'static str {
        encode(&Registry::default(), |_| (), accept.iter().copied()).unwrap().0
    }

    #[test]
    fn prometheus_text_has_no_exemplars_and_names_counters_by_their_sample() {
        let (_, text) = encode(&registry(), |_| (), std::iter::empty()).unwrap();
        let expect = r##"# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{tool="a\" # {\n\\"} 1
# HELP open_bytes Open.
# TYPE open_bytes gauge
open_bytes 0
# HELP times Times.
# TYPE times histogram
times_sum 0.5
times_count 1
times_bucket{le="1.0"} 1
times_bucket{le="+Inf"} 1
# EOF
"##;
        assert_eq!(text, expect);
    }

    #[test]
    fn openmetrics_keeps_exemplars() {
        let accept = ["text/plain;q=0.5, application/openmetrics-text;version=1.0.0;q=0.7"];
        let more = |out: &mut String| out.push_str("# TYPE more gauge\nmore 1\n");
        let (format, text) = encode(&registry(), more, accept.into_iter()).unwrap();
        assert!(text.ends_with("more 1\n# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
        assert_eq!(format, OPENMETRICS);
        assert!(text.contains("# {tool=\"x\"} 0.5"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_format_follows_accept() {
        assert_eq!(format_for(&[]), PROMETHEUS);
        assert_eq!(format_for(&["*/*"]), PROMETHEUS);
        assert_eq!(format_for(&["text/plain"]), PROMETHEUS);
        assert_eq!(format_for(&["application/openmetrics-text; q=0"]), PROMETHEUS);
        assert_eq!(format_for(&["application/openmetrics-text-like"]), PROMETHEUS);
        assert_eq!(format_for(&["text/plain", "Application/OpenMetrics-Text"]), OPENMETRICS);
    }
}
