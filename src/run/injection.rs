//! Carries out the commands that add the sidecar to pods.

use std::io::{self, Read, Write};

use super::complain;
use crate::admission::install::Install;
use crate::admission::manifests::{Change, rewrite};
use crate::cli::{InjectJob, Input};

/// Rewrites every input to stdout. Nothing is written when any of them cannot be used: half a stream would be applied as
/// if it were the whole one.
pub(super) fn inject(job: &InjectJob) -> u8 {
    let change = if job.undo { Change::Undo } else { Change::Inject(&job.settings) };
    let mut output = String::new();
    for input in &job.inputs {
        let name = name(input);
        let text = match read(input) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("meshtrace: {name}: {error}");
                return 2;
            }
        };
        let rewritten = match rewrite(&text, change) {
            Ok(rewritten) => rewritten,
            Err(problem) => {
                eprintln!("meshtrace: {name}:{problem}");
                return 2;
            }
        };
        for note in &rewritten.notes {
            eprintln!("meshtrace: {name}: {note}");
        }
        join(&mut output, &rewritten.text);
    }
    print(&output)
}

/// Prints the manifests of an installation.
pub(super) fn install(install: &Install) -> u8 {
    match install.render() {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("meshtrace: {error}");
            1
        }
    }
}

fn print(text: &str) -> u8 {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        // Who reads only the beginning has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => complain(&error),
    }
}

/// Puts one stream behind another, with a document marker between the two.
fn join(output: &mut String, text: &str) {
    if !output.is_empty() && !text.starts_with("---") {
        if !output.ends_with('\n') {
            output.push('\n');
        }
        output.push_str("---\n");
    }
    output.push_str(text);
}

fn name(input: &Input) -> String {
    match input {
        Input::Stdin => "stdin".to_owned(),
        Input::File(path) => path.display().to_string(),
    }
}

fn read(input: &Input) -> io::Result<String> {
    match input {
        Input::File(path) => std::fs::read_to_string(path),
        Input::Stdin => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(text)
        }
    }
}
