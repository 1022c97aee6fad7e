//! What a span keeps, replaces, cuts and drops.

use super::*;

fn limits(change: impl FnOnce(&mut SpanLimits)) -> SpanLimits {
    let mut limits = SpanLimits::default();
    change(&mut limits);
    limits
}

#[test]
fn what_was_set_is_read_back() {
    let mut span = Span::new(SpanLimits::default());
    span.set_name_parts("tools/call", "weather");
    span.set_tracestate("mt=1");
    span.set_str("a", "text");
    span.set_static("b", "fixed");
    span.set_int("c", -1);
    span.set_bool("d", true);
    span.set_double("e", 0.5);
    span.set_strings("f", &["x", ""]);
    span.set_named(&"g".repeat(3), "h");
    let attributes: Vec<_> = span.attributes().collect();
    let expected = [
        ("a", Value::Str("text")),
        ("b", Value::Str("fixed")),
        ("c", Value::Int(-1)),
        ("d", Value::Bool(true)),
        ("e", Value::Double(0.5)),
        ("f", Value::Strings(vec!["x", ""])),
        ("ggg", Value::Str("h")),
    ];
    assert_eq!(attributes, expected);
    assert_eq!(
        (span.name(), span.tracestate(), span.status()),
        ("tools/call weather", "mt=1", Status::Unset)
    );
}

#[test]
fn a_key_is_there_once_with_its_last_value() {
    let mut span = Span::new(SpanLimits::default());
    // These share every byte that the quick check looks at.
    span.set_str("axcxe", "1");
    span.set_str("axcye", "2");
    span.set_named("axcxe", "3");
    span.error("tool_error", "first");
    span.error("timeout", "second");
    let attributes: Vec<_> = span.attributes().collect();
    assert_eq!(
        attributes,
        [("axcxe", Value::Str("3")), ("axcye", Value::Str("2")), ("error.type", Value::Str("timeout"))]
    );
    assert_eq!(span.status(), Status::Error("second"));
}

#[test]
fn counts_are_limited_and_what_is_dropped_is_counted() {
    let mut span = Span::new(limits(|limits| {
        limits.attribute_count = 2;
        limits.link_count = 1;
        limits.link_attribute_count = 1;
    }));
    span.set_int("a", 1);
    span.set_int("b", 2);
    span.set_int("c", 3);
    span.set_int("a", 4);
    assert_eq!(span.attributes().collect::<Vec<_>>(), [("a", Value::Int(4)), ("b", Value::Int(2))]);
    assert_eq!(span.dropped_attributes(), 1);
    for n in 1..=3 {
        let attributes = [("x", Value::Int(n)), ("y", Value::Str("z"))];
        span.add_link(
            TraceId::from_bytes([1; 16]),
            SpanId::from_bytes([2; 8]),
            TraceFlags::SAMPLED,
            true,
            &attributes,
        );
    }
    let links: Vec<_> = span.links().collect();
    assert_eq!((links.len(), span.dropped_links(), links[0].dropped_attributes), (1, 2, 1));
    assert_eq!(links[0].attributes().collect::<Vec<_>>(), [("x", Value::Int(1))]);
}

#[test]
fn values_are_cut_by_characters() {
    let mut span = Span::new(limits(|limits| limits.attribute_value_length = Some(3)));
    span.set_str("a", "ééééé");
    span.set_str("b", "ééé");
    span.set_static("c", "abcd");
    span.set_strings("d", &["abcd", "é"]);
    span.set_name("a name is no value");
    let values: Vec<_> = span.attributes().map(|(_, value)| value).collect();
    assert_eq!(
        values,
        [Value::Str("ééé"), Value::Str("ééé"), Value::Str("abc"), Value::Strings(vec!["abc", "é"])]
    );
    assert_eq!(span.name(), "a name is no value");
    assert!(!span.is_cut());
    let mut none = Span::new(limits(|limits| limits.attribute_value_length = Some(0)));
    none.set_str("a", "x");
    assert_eq!(none.attribute("a"), Some(Value::Str("")));
}

#[test]
fn the_text_of_a_span_is_bounded() {
    let mut span = Span::new(SpanLimits::default());
    span.set_str("a", &"é".repeat(MAX_TEXT_BYTES));
    assert!(span.is_cut());
    span.set_str("b", "more");
    assert_eq!(span.attribute("b"), Some(Value::Str("")));
    let Some(Value::Str(kept)) = span.attribute("a") else { panic!("no text") };
    assert_eq!(kept.len(), MAX_TEXT_BYTES);
    let mut odd = Span::new(SpanLimits::default());
    odd.set_str("a", "x");
    odd.set_str("b", &"é".repeat(MAX_TEXT_BYTES));
    let Some(Value::Str(kept)) = odd.attribute("b") else { panic!("no text") };
    assert_eq!(kept.len(), MAX_TEXT_BYTES - 2);
}

#[test]
fn a_cleared_span_is_as_new() {
    let mut span = Span::new(limits(|limits| limits.attribute_count = 1));
    let fresh = format!("{span:?}");
    span.trace_id = TraceId::from_bytes([1; 16]);
    span.parent = Some(SpanId::from_bytes([1; 8]));
    span.kind = SpanKind::Server;
    span.set_name("n");
    span.set_tracestate("a=b");
    span.set_strings("a", &["x"]);
    span.set_int("b", 1);
    span.error("x", &"y".repeat(2 * MAX_TEXT_BYTES));
    span.add_link(span.trace_id, SpanId::INVALID, TraceFlags::default(), false, &[("k", Value::Bool(true))]);
    span.clear();
    assert_eq!(format!("{span:?}"), fresh);
}

#[test]
fn prepared_attributes_are_like_any_others() {
    let limits = limits(|limits| limits.attribute_count = 4);
    let prepared = Prepared::new(limits, |span| {
        span.set_str("network.transport", "tcp");
        span.set_int("client.port", 1);
    });
    let set = |before: &[&'static str]| {
        let mut span = Span::new(limits);
        before.iter().for_each(|key| span.set_str(key, "before"));
        span.set_prepared(&prepared);
        span.set_str("client.port", "after");
        let all: Vec<_> = span.attributes().map(|(key, value)| format!("{key}={value:?}")).collect();
        (all.join(" "), span.dropped_attributes())
    };
    let after = "client.port=Str(\"after\")";
    assert_eq!(set(&[]), (format!("network.transport=Str(\"tcp\") {after}"), 0));
    assert_eq!(
        set(&["client.port", "a"]),
        (format!("{after} a=Str(\"before\") network.transport=Str(\"tcp\")"), 0),
        "a key is there once"
    );
    let (all, dropped) = set(&["a", "b", "c"]);
    assert!(all.ends_with("network.transport=Str(\"tcp\")"), "{all}");
    assert_eq!(dropped, 2, "no room for two");
}
