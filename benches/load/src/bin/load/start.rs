//! From starting a proxy to the first answer through it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use meshtrace_load::args::{Args, usage};
use meshtrace_load::payload::{self, Kind, Parent};

use crate::say;

/// How long one start may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts to connect: the resolution of the figure.
const PAUSE: Duration = Duration::from_micros(200);

pub(crate) fn run(args: &Args) -> io::Result<()> {
    let target: SocketAddr = args.need("target");
    let [_, program, rest @ ..] = args.words() else {
        usage("load start needs a command");
    };
    let mut times = Vec::new();
    for _ in 0..args.get("times", 11) {
        let start = Instant::now();
        let mut child =
            Command::new(program).args(rest).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let answered = first_answer(target, start);
        stop(&mut child)?;
        times.push(answered?.as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    say(&format!("{{\"median_ms\":{:.3},\"min_ms\":{:.3}}}", times[times.len() / 2], times[0]))
}

fn first_answer(target: SocketAddr, start: Instant) -> io::Result<Duration> {
    let mut request = payload::request(Kind::Small, &target.to_string(), Parent::None);
    let request = request.with(&payload::id_digits(0), 0);
    loop {
        match attempt(target, request) {
            Ok(()) => return Ok(start.elapsed()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn attempt(target: SocketAddr, request: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(request)?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    if &status == b"HTTP/1.1 200" { Ok(()) } else { Err(io::Error::other("not 200")) }
}

fn stop(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}
