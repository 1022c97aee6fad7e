//! The variables that make an agent load the files, with the values that it
//! has already kept.

use std::path::Path;

use super::{Error, NODE};

const PYTHONPATH: &str = "PYTHONPATH";
const NODE_OPTIONS: &str = "NODE_OPTIONS";
/// The headers that agents on MCP Mesh hand on by themselves. They do so in
/// places of their own that no shim reaches.
pub const MCP_MESH: &str = "MCP_MESH_PROPAGATE_HEADERS";
const TRACE_HEADERS: &str = "traceparent,tracestate,baggage";

/// How the variables are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For `eval` in a POSIX shell; values of that shell are kept.
    #[default]
    Shell,
    /// One JSON object of names and values.
    Json,
    /// `NAME=value` lines, as `docker run --env-file` reads them.
    Dotenv,
}

/// The variables for one directory.
///
/// In `PYTHONPATH` the directory comes first: of several modules with the
/// shim's name Python runs only the first, and the shim runs the next one
/// itself. In the other two an existing value stays in front.
///
/// Python has no variable that adds to what an image says: `PYTHONSTARTUP` is
/// for interactive use, and `PYTHONUSERBASE` would hide the packages that a
/// user installed and is not read in virtual environments. A `.pth` file needs
/// a directory of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    dir: String,
    require: String,
}

impl Environment {
    /// For files that `install` wrote into `dir`, or will have written there by
    /// the time that the agent starts. A relative path starts where we are.
    ///
    /// # Errors
    /// [`Error::Unspeakable`] when a variable could not hold the path,
    /// [`Error::Io`] when there is no current directory to start from.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let whole = std::path::absolute(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
        let text = whole.to_str().filter(|text| !text.contains(|c: char| c == ':' || c.is_control()));
        let dir = text.ok_or_else(|| Error::Unspeakable(dir.to_owned()))?.to_owned();
        let file = whole.join(NODE.0);
        let require = format!("--require {}", quoted_for_node(file.to_str().unwrap_or_default()));
        Ok(Environment { dir, require })
    }

    /// Names and whole values, where `existing` tells what the agent's
    /// environment holds already.
    pub fn variables(&self, existing: impl Fn(&str) -> Option<String>) -> [(&'static str, String); 3] {
        let existing = |name| existing(name).filter(|value| !value.is_empty());
        let behind = |name, separator, own: &str| match existing(name) {
            Some(value) => format!("{value}{separator}{own}"),
            None => own.to_owned(),
        };
        let python = match existing(PYTHONPATH) {
            Some(value) => format!("{}:{value}", self.dir),
            None => self.dir.clone(),
        };
        [
            (PYTHONPATH, python),
            (NODE_OPTIONS, behind(NODE_OPTIONS, " ", &self.require)),
            (MCP_MESH, behind(MCP_MESH, ",", TRACE_HEADERS)),
        ]
    }

    /// The text that sets the variables, with a line break at its end.
    pub fn print(&self, format: Format, existing: impl Fn(&str) -> Option<String>) -> String {
        match format {
            Format::Shell => self.shell(),
            Format::Json => {
                let values = self.variables(existing).map(|(name, value)| (name.to_owned(), value.into()));
                format!("{:#}\n", serde_json::Value::Object(values.into_iter().collect()))
            }
            Format::Dotenv => {
                self.variables(existing).map(|(name, value)| format!("{name}={value}\n")).concat()
            }
        }
    }

    fn shell(&self) -> String {
        let (dir, require) = (quoted_for_shell(&self.dir), quoted_for_shell(&self.require));
        format!(
            "export {PYTHONPATH}={dir}\"${{{PYTHONPATH}:+:${PYTHONPATH}}}\"\n\
             export {NODE_OPTIONS}=\"${{{NODE_OPTIONS}:+${NODE_OPTIONS} }}\"{require}\n\
             export {MCP_MESH}=\"${{{MCP_MESH}:+${MCP_MESH},}}\"{TRACE_HEADERS}\n"
        )
    }
}

/// Node splits its options at spaces, and reads double quotes and backslashes
/// in them (its documentation of `NODE_OPTIONS`).
fn quoted_for_node(path: &str) -> String {
    if !path.contains([' ', '"', '\\']) {
        return path.to_owned();
    }
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

fn quoted_for_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(dir: &str) -> Environment {
        Environment::new(Path::new(dir)).unwrap()
    }

    #[test]
    fn what_is_there_is_kept() {
        let bare = environment("/meshtrace").variables(|_| None);
        assert_eq!(
            bare.map(|(name, value)| format!("{name}={value}")),
            [
                "PYTHONPATH=/meshtrace",
                "NODE_OPTIONS=--require /meshtrace/meshtrace.cjs",
                "MCP_MESH_PROPAGATE_HEADERS=traceparent,tracestate,baggage",
            ]
        );
        let kept = environment("/meshtrace").variables(|name| match name {
            "PYTHONPATH" => Some("/app:/lib".to_owned()),
            "NODE_OPTIONS" => Some("--enable-source-maps".to_owned()),
            "MCP_MESH_PROPAGATE_HEADERS" => Some("authorization".to_owned()),
            _ => None,
        });
        assert_eq!(
            kept.map(|(_, value)| value),
            [
                "/meshtrace:/app:/lib",
                "--enable-source-maps --require /meshtrace/meshtrace.cjs",
                "authorization,traceparent,tracestate,baggage",
            ]
        );
        let empty = environment("/meshtrace").variables(|_| Some(String::new()));
        assert_eq!(empty, environment("/meshtrace").variables(|_| None));
    }

    #[test]
    fn odd_paths_are_quoted_or_refused() {
        let odd = environment("/a b/c\"d'e");
        assert_eq!(odd.variables(|_| None)[1].1, "--require \"/a b/c\\\"d'e/meshtrace.cjs\"");
        assert!(odd.shell().contains("'/a b/c\"d'\\''e'"), "{}", odd.shell());
        for dir in ["/a:b", "/a\nb"] {
            assert!(matches!(Environment::new(Path::new(dir)), Err(Error::Unspeakable(_))), "{dir:?}");
        }
        assert!(environment("here").dir.starts_with('/'));
    }

    #[test]
    fn the_formats_hold_the_same() {
        let existing = |name: &str| (name == "PYTHONPATH").then(|| "/app".to_owned());
        let it = environment("/m");
        let json: serde_json::Value = serde_json::from_str(&it.print(Format::Json, existing)).unwrap();
        for (name, value) in it.variables(existing) {
            assert_eq!(json[name], value);
            assert!(it.print(Format::Dotenv, existing).contains(&format!("{name}={value}\n")));
            assert!(it.print(Format::Shell, existing).contains(&format!("export {name}=")));
        }
    }
}
