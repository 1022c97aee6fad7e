//! The load generator.
//!
//! ```text
//! load closed --target ADDR --kind K --connections N --requests N [--warmup N] [--reconnect] [--capitals] [--parent P]
//! load paced  --target ADDR --kind K --connections N --rate N --milliseconds N [--parent P]
//! load hold   --target ADDR --kind K --connections N
//! load start  --target ADDR [--times N] -- COMMAND…
//! load awake
//! ```
//!
//! With `--capitals` the names of header fields begin with them, in requests and in answers.
//!
//! `closed`, `paced` and `hold` connect and warm up, print `READY`, and then answer every line on
//! standard input with one line of JSON, the former two after a slice of load. The driver reads
//! the proxy's counters at both ends of a slice, so neither start-up nor connecting is part of a
//! figure, and it lets slices through two proxies alternate quickly. `awake` only keeps its CPU busy
//! until standard input ends.

mod awake;
mod closed;
mod hold;
mod paced;
mod start;

use std::io::{self, Write};

use meshtrace_load::args::{Args, usage};
use meshtrace_load::payload::{Kind, Parent};

fn main() -> io::Result<()> {
    let args = Args::from_env();
    match args.words().first().map(String::as_str) {
        Some("closed") => closed::run(&args),
        Some("paced") => paced::run(&args),
        Some("hold") => hold::run(&args),
        Some("start") => start::run(&args),
        Some("awake") => awake::run(),
        _ => usage("load closed | paced | hold | start | awake"),
    }
}

/// `--kind`, `small` unless given.
fn kind(args: &Args) -> Kind {
    let name = args.get("kind", "small".to_owned());
    Kind::named(&name).unwrap_or_else(|| usage(&format!("there is no kind {name:?}")))
}

/// `--parent`: `none`, `sampled`, `unsampled`, or `sidecar`: the same from a sidecar that wants to hear of what is kept.
fn parent(args: &Args) -> Parent {
    match args.get("parent", "none".to_owned()).as_str() {
        "none" => Parent::None,
        "sampled" => Parent::Sampled,
        "unsampled" => Parent::Unsampled,
        "sidecar" => Parent::Sidecar,
        other => usage(&format!("there is no parent {other:?}")),
    }
}

/// Prints one line at once, although the output is a pipe.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Waits for the driver's next line; false when there will be none.
fn next_line() -> io::Result<bool> {
    Ok(io::stdin().read_line(&mut String::new())? > 0)
}

/// The summary of latencies given in nanoseconds, as JSON members in microseconds.
fn latency_json(mut nanoseconds: Vec<u64>) -> String {
    nanoseconds.sort_unstable();
    let at = |quantile: f64| {
        let index = (nanoseconds.len() as f64 * quantile) as usize;
        let value = nanoseconds.get(index.min(nanoseconds.len().saturating_sub(1)));
        value.copied().unwrap_or(0) as f64 / 1000.0
    };
    format!("\"p50\":{:.2},\"p90\":{:.2},\"p99\":{:.2}", at(0.50), at(0.90), at(0.99))
}
