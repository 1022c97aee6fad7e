//! What MCP Mesh, a library for MCP agents, puts among the arguments of the
//! calls that it makes, for want of a better place: its own trace, and the
//! headers that it passes on. Only read, never written.

use super::keys::{ArgumentsKey, MeshHeadersKey};
use super::message::Doubt;
use super::read::text;
use super::scan::{Member, Scanner};
use super::text::Text;

/// The members of `arguments` that belong to the library. Absent and wrongly
/// typed ones are `None`, unchecked is what they say.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeshArguments<'a> {
    /// `_trace_id`: 32 hexadecimal digits.
    pub trace_id: Option<Text<'a>>,
    /// `_parent_span`: 16 hexadecimal digits.
    pub parent_span: Option<Text<'a>>,
    /// `traceparent` in `_mesh_headers`.
    pub traceparent: Option<Text<'a>>,
    /// `tracestate` in `_mesh_headers`.
    pub tracestate: Option<Text<'a>>,
}

/// Reads them out of the value of `params.arguments`. Where that is no object,
/// or one of them occurs twice, there are none.
pub fn mesh_arguments(arguments: &[u8]) -> MeshArguments<'_> {
    let mut found = MeshArguments::default();
    let mut scanner = Scanner::new(arguments);
    if scanner.space() != b'{' || read(&mut scanner, &mut found).is_err() {
        return MeshArguments::default();
    }
    found
}

fn read<'a>(scanner: &mut Scanner<'a, &'a [u8]>, found: &mut MeshArguments<'a>) -> Result<(), Doubt> {
    scanner.members(|scanner, member: Member<ArgumentsKey>| match member.key {
        ArgumentsKey::TraceId => text(scanner, &mut found.trace_id),
        ArgumentsKey::ParentSpan => text(scanner, &mut found.parent_span),
        ArgumentsKey::MeshHeaders if scanner.peek() == b'{' => {
            let headers = scanner.members(|scanner, member: Member<MeshHeadersKey>| match member.key {
                MeshHeadersKey::Traceparent => text(scanner, &mut found.traceparent),
                MeshHeadersKey::Tracestate => text(scanner, &mut found.tracestate),
                MeshHeadersKey::Other => scanner.skip(),
            });
            headers.map(drop)
        }
        ArgumentsKey::MeshHeaders | ArgumentsKey::Other => scanner.skip(),
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(arguments: &str) -> [Option<String>; 4] {
        let found = mesh_arguments(arguments.as_bytes());
        [found.trace_id, found.parent_span, found.traceparent, found.tracestate]
            .map(|text| text.map(|text| text.decode().into_owned()))
    }

    #[test]
    fn the_members_of_the_library_are_read() {
        let all = r#"{"city":"Oslo","_trace_id":"t","_parent_span":"p","_mesh_headers":{"x":[1],"traceparent":"w","tracestate":"a\u003d1"}}"#;
        assert_eq!(found(all), ["t", "p", "w", "a=1"].map(|text| Some(text.to_owned())));
        let none = [None, None, None, None];
        for arguments in [
            "",
            "null",
            "[1]",
            "{}",
            r#"{"a":{"_trace_id":"t"}}"#,
            r#"{"_trace_id":1,"_mesh_headers":"traceparent"}"#,
            r#"{"_trace_id":"t","_trace_id":"u"}"#,
            r#"{"_trace_id":"t""#,
        ] {
            assert_eq!(found(arguments), none, "{arguments}");
        }
    }
}
