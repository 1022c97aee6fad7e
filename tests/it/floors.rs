//! The house of `src/ARCHITECTURE.md`: a room imports only from lower floors,
//! or from a room that stands beside it in the same row.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor; those of one group may know each other.
const FLOORS: [&[&[&str]]; 6] = [
    &[&["w3c"], &["mcp"], &["metrics"]],
    &[&["trace"], &["net"], &["a2a"], &["genai"]],
    &[&["export"], &["capture"], &["shim"]],
    &[&["proxy", "stdio"], &["store", "demo"], &["check"], &["admission"]],
    &[&["admin"], &["config"]],
    &[&["app", "cli", "log", "reload", "run"]],
];

#[test]
fn no_room_knows_what_stands_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut looked_at = 0;
    for file in files(&source) {
        let room = room_of(file.strip_prefix(&source).unwrap());
        let Some((floor, group)) = place(&room) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for import in text.split("crate::").skip(1) {
            let other: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some((other_floor, other_group)) = place(&other) else { continue };
            let allowed = other_floor < floor || (other_floor, other_group) == (floor, group);
            assert!(allowed, "{}: {room} must not import {other}", file.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 100, "the imports were not found");
}

#[test]
fn every_file_says_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["src", "tests/it", "benches"].iter().flat_map(|folder| files(&root.join(folder))) {
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!") || first.starts_with("#![doc"), "{}", file.display());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn room_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn place(room: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, groups)| {
        let group = groups.iter().position(|group| group.contains(&room))?;
        Some((floor, group))
    })
}
