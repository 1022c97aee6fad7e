//! Command lines of the form `program word --key value --switch`.

use std::collections::HashMap;
use std::str::FromStr;

/// A parsed command line.
#[derive(Debug, Default)]
pub struct Args {
    words: Vec<String>,
    flags: HashMap<String, String>,
}

impl Args {
    /// Reads the arguments of this process.
    ///
    /// A flag followed by another flag, or by nothing, is a switch and holds the empty string.
    /// Everything after a lone `--` is a word.
    pub fn from_env() -> Args {
        let mut args = Args::default();
        let mut input = std::env::args().skip(1).peekable();
        while let Some(next) = input.next() {
            if next == "--" {
                args.words.extend(input.by_ref());
            } else if let Some(key) = next.strip_prefix("--") {
                let value = input.next_if(|value| !value.starts_with("--"));
                args.flags.insert(key.to_owned(), value.unwrap_or_default());
            } else {
                args.words.push(next);
            }
        }
        args
    }

    /// The words that are not flags, in order.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether `--key` was given at all.
    pub fn has(&self, key: &str) -> bool {
        self.flags.contains_key(key)
    }

    /// The value of `--key`, or `default` when it is missing. Leaves the process with code 2
    /// when the value does not parse.
    pub fn get<T: FromStr>(&self, key: &str, default: T) -> T {
        let Some(value) = self.flags.get(key) else {
            return default;
        };
        value.parse().unwrap_or_else(|_| usage(&format!("--{key} cannot be {value:?}")))
    }

    /// The value of `--key`. Leaves the process with code 2 when it is missing or does not parse.
    pub fn need<T: FromStr>(&self, key: &str) -> T {
        match self.flags.get(key).map(|value| value.parse()) {
            Some(Ok(value)) => value,
            _ => usage(&format!("--{key} needs a value")),
        }
    }
}

/// Says what is wrong with the command line and leaves with code 2.
pub fn usage(problem: &str) -> ! {
    eprintln!("{problem}");
    std::process::exit(2)
}
