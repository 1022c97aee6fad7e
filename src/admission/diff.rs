//! The difference of two JSON documents as a JSON Patch (RFC 6902), small enough to be read.
//!
//! Elements of a list are taken for the same when their `name` is: that is how Kubernetes tells containers, ports and
//! variables apart, so that a list that got a new first element is not replaced as a whole.

use serde::Serialize;
use serde_json::{Map, Value};

/// One step; steps apply one after the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Sets a member of an object, or inserts an element before the index.
    Add {
        /// A JSON Pointer (RFC 6901).
        path: String,
        /// The new value.
        value: Value,
    },
    /// Takes a member or an element away.
    Remove {
        /// A JSON Pointer (RFC 6901).
        path: String,
    },
    /// Changes a value that is there.
    Replace {
        /// A JSON Pointer (RFC 6901).
        path: String,
        /// The new value.
        value: Value,
    },
}

/// The work that aligning two lists may take, in pairs of elements. Longer ones are replaced as a whole.
const MAX_PAIRS: usize = 1_000_000;

/// The steps that lead from `old` to `new`; none when they are equal.
pub fn diff(old: &Value, new: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    values(&mut String::new(), old, new, &mut operations);
    operations
}

fn values(path: &mut String, old: &Value, new: &Value, operations: &mut Vec<Operation>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => objects(path, old, new, operations),
        (Value::Array(old), Value::Array(new)) if old.len().saturating_mul(new.len()) <= MAX_PAIRS => {
            lists(path, old, new, operations);
        }
        _ => operations.push(Operation::Replace { path: path.clone(), value: new.clone() }),
    }
}

fn objects(
    path: &mut String,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    operations: &mut Vec<Operation>,
) {
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        operations.push(Operation::Remove { path: member(path, key) });
    }
    for (key, value) in new {
        match old.get(key) {
            None => operations.push(Operation::Add { path: member(path, key), value: value.clone() }),
            Some(old) => within(path, &escape(key), |path| values(path, old, value, operations)),
        }
    }
}

fn lists(path: &mut String, old: &[Value], new: &[Value], operations: &mut Vec<Operation>) {
    let common = common(old, new);
    let (mut o, mut n, mut index) = (0, 0, 0);
    for (keep_old, keep_new) in common.into_iter().chain([(old.len(), new.len())]) {
        for _ in o..keep_old {
            operations.push(Operation::Remove { path: member(path, &index.to_string()) });
        }
        for value in &new[n..keep_new] {
            operations.push(Operation::Add { path: member(path, &index.to_string()), value: value.clone() });
            index += 1;
        }
        if let (Some(old), Some(new)) = (old.get(keep_old), new.get(keep_new)) {
            within(path, &index.to_string(), |path| values(path, old, new, operations));
        }
        (o, n, index) = (keep_old + 1, keep_new + 1, index + 1);
    }
}

/// The pairs of a longest common subsequence, by identity.
fn common(old: &[Value], new: &[Value]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for o in (0..old.len()).rev() {
        for n in (0..new.len()).rev() {
            longest[o * width + n] = if same(&old[o], &new[n]) {
                longest[(o + 1) * width + n + 1] + 1
            } else {
                longest[(o + 1) * width + n].max(longest[o * width + n + 1])
            };
        }
    }
    let (mut o, mut n, mut pairs) = (0, 0, Vec::new());
    while o < old.len() && n < new.len() {
        if same(&old[o], &new[n]) {
            pairs.push((o, n));
            (o, n) = (o + 1, n + 1);
        } else if longest[(o + 1) * width + n] >= longest[o * width + n + 1] {
            o += 1;
        } else {
            n += 1;
        }
    }
    pairs
}

fn same(old: &Value, new: &Value) -> bool {
    match (old.get("name"), new.get("name")) {
        (Some(old), Some(new)) => old == new,
        _ => old == new,
    }
}

fn within(path: &mut String, segment: &str, run: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(segment);
    run(path);
    path.truncate(length);
}

fn member(path: &str, key: &str) -> String {
    format!("{path}/{}", escape(key))
}

/// RFC 6901 section 3.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
