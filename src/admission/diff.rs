//! The difference of two JSON documents as a JSON Patch (RFC 6902), small enough to be read.
//!
//! Elements of a list are taken for the same when their `name` is: that is how Kubernetes tells containers, ports and
//! variables apart, so that a list that got a new first element is not replaced as a whole.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

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

/// The work that aligning what differs of two lists may take, in pairs of elements. Longer ones are replaced as a whole.
const MAX_PAIRS: usize = 1_000_000;

/// The steps that lead from `old` to `new`; none when they are equal.
pub fn diff(old: &Value, new: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    values(&mut String::new(), old, new, &mut operations);
    operations
}

fn values(path: &mut String, old: &Value, new: &Value, operations: &mut Vec<Operation>) {
    match (old, new) {
        // Equal ones are not compared first: a step down that finds nothing is the comparison.
        (Value::Object(old), Value::Object(new)) => objects(path, old, new, operations),
        (Value::Array(old), Value::Array(new)) => match common(old, new) {
            Some(common) => lists(path, old, new, common, operations),
            None => {
                operations.push(Operation::Replace { path: path.clone(), value: Value::from(new.clone()) })
            }
        },
        _ if old == new => {}
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
        operations.push(Operation::Remove { path: member(path, escape(key)) });
    }
    for (key, value) in new {
        match old.get(key) {
            None => operations.push(Operation::Add { path: member(path, escape(key)), value: value.clone() }),
            Some(old) => within(path, escape(key), |path| values(path, old, value, operations)),
        }
    }
}

fn lists(
    path: &mut String,
    old: &[Value],
    new: &[Value],
    common: Vec<(usize, usize)>,
    operations: &mut Vec<Operation>,
) {
    let (mut o, mut n, mut index) = (0, 0, 0);
    for (keep_old, keep_new) in common.into_iter().chain([(old.len(), new.len())]) {
        for _ in o..keep_old {
            operations.push(Operation::Remove { path: member(path, index) });
        }
        for value in &new[n..keep_new] {
            operations.push(Operation::Add { path: member(path, index), value: value.clone() });
            index += 1;
        }
        if let (Some(old), Some(new)) = (old.get(keep_old), new.get(keep_new)) {
            within(path, index, |path| values(path, old, new, operations));
        }
        (o, n, index) = (keep_old + 1, keep_new + 1, index + 1);
    }
}

/// The pairs of a longest common subsequence, by identity; `None` where finding it would take too long. What two lists
/// begin and end with alike is paired at once: a few elements more in the middle are all that usually differs.
fn common(old: &[Value], new: &[Value]) -> Option<Vec<(usize, usize)>> {
    let alike = |(old, new): &(&Value, &Value)| same(old, new);
    let start = old.iter().zip(new).take_while(alike).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(alike).count();
    let (old_middle, new_middle) = (&old_rest[..old_rest.len() - end], &new_rest[..new_rest.len() - end]);
    let middle = aligned(old_middle, new_middle)?;
    let head = (0..start).map(|index| (index, index));
    let middle = middle.into_iter().map(|(o, n)| (o + start, n + start));
    let tail = (0..end).map(|index| (old.len() - end + index, new.len() - end + index));
    Some(head.chain(middle).chain(tail).collect())
}

/// The same for what does not begin and end alike.
fn aligned(old: &[Value], new: &[Value]) -> Option<Vec<(usize, usize)>> {
    if old.len().saturating_mul(new.len()) > MAX_PAIRS {
        return None;
    }
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
    Some(pairs)
}

fn same(old: &Value, new: &Value) -> bool {
    match (old.get("name"), new.get("name")) {
        (Some(old), Some(new)) => old == new,
        _ => old == new,
    }
}

fn within(path: &mut String, segment: impl Display, run: impl FnOnce(&mut String)) {
    let length = path.len();
    // Writing to a string never fails.
    let _ = write!(path, "/{segment}");
    run(path);
    path.truncate(length);
}

fn member(path: &str, segment: impl Display) -> String {
    format!("{path}/{segment}")
}

/// RFC 6901 section 3.
fn escape(key: &str) -> Cow<'_, str> {
    match key.contains(['~', '/']) {
        true => Cow::Owned(key.replace('~', "~0").replace('/', "~1")),
        false => Cow::Borrowed(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(names: impl IntoIterator<Item = usize>) -> Value {
        names.into_iter().map(|name| json!({"name": format!("V{name}"), "value": "x"})).collect()
    }

    fn patched(old: &Value, new: &Value) -> Vec<Operation> {
        let operations = diff(old, new);
        let steps = serde_json::to_value(&operations).unwrap();
        let steps: json_patch::Patch = serde_json::from_value(steps).unwrap();
        let mut patched = old.clone();
        json_patch::patch(&mut patched, &steps).unwrap();
        assert_eq!(&patched, new, "{operations:?}");
        operations
    }

    #[test]
    fn lists_of_any_length_are_compared_where_they_differ() {
        let old = named(0..5_000);
        assert_eq!(patched(&old, &old), []);
        for (new, expect) in [
            (named([9_999].into_iter().chain(0..5_000)), "/0"),
            (named((0..5_000).chain([9_999])), "/5000"),
            (named((0..2_500).chain([9_999]).chain(2_500..5_000)), "/2500"),
        ] {
            let added = Operation::Add { path: expect.to_owned(), value: named([9_999])[0].clone() };
            assert_eq!(patched(&old, &new), [added]);
        }
        let mut changed = old.clone();
        changed[4_000]["value"] = json!("y");
        let one = Operation::Replace { path: "/4000/value".to_owned(), value: json!("y") };
        assert_eq!(patched(&old, &changed), [one]);
        let other = named(5_000..10_000);
        assert_eq!(patched(&old, &other), [Operation::Replace { path: String::new(), value: other.clone() }]);
    }

    #[test]
    fn short_lists_of_all_kinds_are_led_to_each_other() {
        let lists: Vec<Value> = (0..3_usize.pow(4))
            .map(|number| {
                let digits = (0..4).map(|place| number / 3_usize.pow(place) % 3);
                digits
                    .filter(|digit| *digit != 0)
                    .map(|digit| json!({"name": digit, "was": number}))
                    .collect()
            })
            .collect();
        for old in &lists {
            for new in &lists {
                patched(old, new);
            }
        }
    }

    #[test]
    fn a_path_is_a_json_pointer() {
        let operations = patched(&json!({"a/b": {"c~d": 1}}), &json!({"a/b": {"c~d": 2}}));
        assert_eq!(operations, [Operation::Replace { path: "/a~1b/c~0d".to_owned(), value: json!(2) }]);
    }
}
