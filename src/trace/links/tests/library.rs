//! Calls of the library MCP Mesh.

use super::*;

fn ids(trace: &str, parent: Option<&str>) -> LibraryIds {
    let trace = opentelemetry::trace::TraceId::from_hex(trace).unwrap();
    LibraryIds { trace, parent: parent.map(id), sampled: true }
}

impl World {
    fn serve_mesh(&self, trace: &str, span: &str, library: LibraryIds) -> Place {
        let context = context(trace, span, "01", "").parent;
        self.spans.begin(Served { library: Some(library), caller: library.parent, ..Served::of(context) })
    }
}

#[test]
fn a_library_that_passes_its_headers_on_is_believed() {
    let world = World::new();
    let _ = world.serve(OURS);
    let _ = world.serve_of(OTHER_TRACE, OURS_TOO, "01", None);
    let parent = world.parent(claim(OURS, "", Carrier::Library), true);
    assert_eq!((parent.span, parent.provenance.method), (Some(id(OURS)), Method::PropagatedLibrary));
    assert!(parent.provenance.exact);
}

#[test]
fn the_ids_of_a_library_name_the_request_that_came_with_them() {
    let (t, p, own) = ("3333333333333333333333333333333a", "4444444444444444", "5555555555555555");
    let world = World::new();
    // Three requests: two of one trace of the library, one of another.
    let _ = world.serve_mesh(TRACE, OURS, ids(t, Some(p)));
    let _ = world.serve_mesh(t, OURS_TOO, ids(t, Some(own)));
    let _ = world.serve_mesh(OTHER_TRACE, "d7ad6b7169203333", ids("3333333333333333333333333333333b", None));
    let look = |library: LibraryIds| {
        let parent = world.parent_by(Claim::default(), library);
        (parent.provenance.method, parent.span, parent.provenance.exact)
    };
    let by = Method::PropagatedLibrary;
    assert_eq!(look(ids(t, Some(p))), (by, Some(id(OURS)), true), "both ids came back");
    // A span of the library's own, in a trace of one request or of two.
    let other = ids("3333333333333333333333333333333b", Some("6666666666666666"));
    assert_eq!(look(other), (by, Some(id("d7ad6b7169203333")), false));
    assert_eq!(look(ids(t, Some("6666666666666666"))), (by, None, false));
    // The same ids twice: their trace, and the caller that they share.
    let _ = world.serve_mesh(TRACE, "e7ad6b7169203334", ids(t, Some(p)));
    assert_eq!(look(ids(t, Some(p))), (by, Some(id(p)), false));
    // What holds of W3C is better.
    let parent = world.parent_by(claim(OURS, "", Carrier::Meta), ids(t, Some(own)));
    assert_eq!(parent.provenance.method, Method::PropagatedMeta);
}

/// A caller that makes two calls under one span sends both with the same ids.
/// What the first calls after its answer is not proved to be of the second.
#[test]
fn ids_that_came_with_two_requests_prove_nothing() {
    let came = ids("3333333333333333333333333333333a", Some("4444444444444444"));
    let look = |world: &World| {
        let parent = world.parent_by(Claim::default(), came);
        (parent.provenance.method, parent.span, parent.provenance.exact, parent.server_span)
    };
    let by = Method::PropagatedLibrary;
    for answered_first in [OURS, OURS_TOO] {
        let world = World::new();
        let first = world.serve_mesh(TRACE, OURS, came);
        if answered_first == OURS {
            assert_eq!(look(&world), (by, Some(id(OURS)), true, Some(id(OURS))));
            world.spans.end(first);
            let _ = world.serve_mesh(TRACE, OURS_TOO, came);
        } else {
            world.spans.end(world.serve_mesh(TRACE, OURS_TOO, came));
        }
        let left = if answered_first == OURS { OURS_TOO } else { OURS };
        assert_eq!(look(&world), (by, Some(id(left)), false, None), "{answered_first} may call still");
    }
    // One that found no room in the table calls as well.
    let world = World { spans: ServerSpans::new(1), ..World::new() };
    let _ = world.serve_mesh(TRACE, "0000000000000010", came);
    assert_eq!(world.serve_mesh(TRACE, "0000000000000020", came), Place::Unnamed);
    assert!(!look(&world).2);
}

/// A trace of the library's own making is kept where nothing better is known.
#[test]
fn an_unknown_trace_of_a_library_is_better_than_none() {
    let own = ids("3333333333333333333333333333333a", Some("4444444444444444"));
    let world = World::new();
    let _ = world.serve(OURS);
    let parent = world.parent_by(Claim::default(), own);
    assert_eq!((parent.provenance.method, parent.span), (Method::InferredSingle, Some(id(OURS))));
    let _ = world.serve_of(OTHER_TRACE, OURS_TOO, "01", None);
    let parent = world.parent_by(Claim::default(), own);
    assert_eq!((parent.provenance.method, parent.span), (Method::PropagatedLibrary, own.parent));
    assert_eq!(parent.context.unwrap().parent.trace_id, own.trace);
    assert_eq!((parent.provenance.exact, parent.links.len()), (false, 2));
}
