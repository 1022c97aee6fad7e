//! The two files that let an agent hand trace context on, and how they get
//! into an agent: written to a directory, and named by environment variables.
//!
//! An agent that copies no header leaves its sidecar guessing which request a
//! call belongs to. The files copy `traceparent`, `tracestate` and `baggage`
//! from the request that is being handled to the calls made for it, inside the
//! agent's own process, and do nothing else. They are part of this program, so
//! that one image serves for both.

mod environment;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use environment::{Environment, Format, MCP_MESH};

/// A file of the shim: its name and its text.
type File = (&'static str, &'static str);

/// Python imports a module of this name at start, from the first directory of
/// its path that has one (documentation of `site`).
const PYTHON: File = ("sitecustomize.py", include_str!("sitecustomize.py"));

/// Node loads it first when `--require` names it. The suffix keeps it a
/// CommonJS module wherever the directory lies.
const NODE: File = ("meshtrace.cjs", include_str!("meshtrace.cjs"));

/// What the beginning of each of our files holds, in every version of it.
const OURS: &str = "meshtrace shim for ";

/// Why the files could not be installed or named.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something of somebody else's has the name.
    #[error("{} exists and is not the shim's: choose a directory of its own", .0.display())]
    Foreign(PathBuf),
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory cannot be written into an environment variable.
    #[error(
        "{0:?} cannot stand in PYTHONPATH and NODE_OPTIONS: choose a path of UTF-8 without colon or line break"
    )]
    Unspeakable(PathBuf),
}

/// Writes the files into `dir`, which is made if need be, and returns those
/// that were not there already in this version.
///
/// Each file is complete at any moment that somebody may read it, so agents
/// may start meanwhile. They are readable by every user, since the agent's may
/// not be ours.
///
/// # Errors
/// [`Error::Foreign`] before anything is written, [`Error::Io`] at any time.
pub fn install(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| Error::Io { path, source }
    };
    if !dir.is_dir() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755).create(dir).map_err(failed(dir))?;
    }
    let mut missing = Vec::new();
    for (name, text) in [PYTHON, NODE] {
        let path = dir.join(name);
        match fs::read_to_string(&path) {
            Ok(held) if held == text => {}
            Ok(held) if held.lines().take(3).any(|line| line.contains(OURS)) => missing.push((path, text)),
            Ok(_) => return Err(Error::Foreign(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push((path, text)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(Error::Foreign(path)),
            Err(source) => return Err(Error::Io { path, source }),
        }
    }
    let mut written = Vec::new();
    for (path, text) in missing {
        replace(&path, text).map_err(failed(&path))?;
        written.push(path);
    }
    Ok(written)
}

/// Puts the whole text there in one step.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = fs::File::create(&new)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        // What is left behind is of no use; why is said already.
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test alone, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("meshtrace-shim-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn installs_once_and_readable_for_everybody() {
        let scratch = Scratch::new("once");
        let dir = scratch.0.join("a/b");
        assert_eq!(install(&dir).unwrap(), [dir.join("sitecustomize.py"), dir.join("meshtrace.cjs")]);
        assert!(install(&dir).unwrap().is_empty());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o755);
        let held: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(held.len(), 2, "{held:?}");
        assert!(held.iter().all(|path| mode(path) == 0o644));
    }

    #[test]
    fn an_older_version_is_replaced_and_a_file_of_others_is_not() {
        let scratch = Scratch::new("older");
        let dir = &scratch.0;
        install(dir).unwrap();
        let python = dir.join("sitecustomize.py");
        fs::write(&python, "\"\"\"meshtrace shim for Python: as it was.\"\"\"\n").unwrap();
        assert_eq!(install(dir).unwrap(), std::slice::from_ref(&python));
        fs::remove_file(dir.join("meshtrace.cjs")).unwrap();
        for text in [&b"print('theirs')\n"[..], b"\xff\xfe"] {
            fs::write(&python, text).unwrap();
            assert!(matches!(install(dir), Err(Error::Foreign(path)) if path == python));
            assert_eq!(fs::read(&python).unwrap(), text);
            assert!(!dir.join("meshtrace.cjs").exists(), "nothing is written beside it");
        }
    }

    #[test]
    fn what_is_no_directory_is_said() {
        let scratch = Scratch::new("file");
        fs::write(&scratch.0, "").unwrap();
        let error = install(&scratch.0).unwrap_err().to_string();
        assert!(error.starts_with(&scratch.0.display().to_string()), "{error}");
        fs::remove_file(&scratch.0).unwrap();
    }

    #[test]
    fn our_files_are_recognised_and_small() {
        for (name, text) in [PYTHON, NODE] {
            assert!(text.lines().take(3).any(|line| line.contains(OURS)), "{name}");
            assert!(text.len() < 32 * 1024, "{name}");
        }
    }
}
