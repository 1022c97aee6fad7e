//! Open loop: requests leave at a fixed rate, whether or not earlier ones are answered.
//!
//! One blocking thread for each connection, its send times staggered. There is no event loop
//! whose timers would be coarser than what is measured. Latency counts from the moment of
//! sending, and from the moment at which it should have been sent when the connection was still
//! busy then, so that a stall is not hidden.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use meshtrace_load::args::Args;
use meshtrace_load::payload::{self, Kind, Parent, Template};

use crate::{kind, latency_json, next_line, parent, say};

/// How long the threads of a slice have to start before the first request is due.
const START_UP: Duration = Duration::from_millis(5);

/// What every thread is told.
#[derive(Clone, Copy)]
struct Plan {
    target: SocketAddr,
    kind: Kind,
    parent: Parent,
    connections: u32,
    rate: u32,
    milliseconds: u32,
}

pub(crate) fn run(args: &Args) -> io::Result<()> {
    let plan = Plan {
        target: args.need("target"),
        kind: kind(args),
        parent: parent(args),
        connections: args.get("connections", 16),
        rate: args.get("rate", 1000),
        milliseconds: args.get("milliseconds", 500),
    };
    let mut connections = Vec::new();
    for number in 0..plan.connections {
        connections.push(Connection::open(plan, number)?);
    }
    say("READY")?;
    while next_line()? {
        let start = Instant::now();
        let slice = |connection: Connection| thread::spawn(move || connection.slice(start));
        let threads: Vec<_> = connections.drain(..).map(slice).collect();
        let mut latencies = Vec::new();
        for thread in threads {
            let done = thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
            let (connection, part) = done?;
            connections.push(connection);
            latencies.extend(part);
        }
        report(start.elapsed().as_secs_f64(), latencies)?;
    }
    Ok(())
}

fn report(seconds: f64, latencies: Vec<u64>) -> io::Result<()> {
    say(&format!(
        "{{\"requests\":{},\"errors\":0,\"seconds\":{seconds:.6},{}}}",
        latencies.len(),
        latency_json(latencies),
    ))
}

/// One connection and its share of the schedule. An error ends the run: there is no figure then.
struct Connection {
    plan: Plan,
    number: u32,
    next_id: u32,
    stream: TcpStream,
    request: Template,
}

impl Connection {
    /// Connects and makes the first few requests, so that the proxy's side is connected too.
    fn open(plan: Plan, number: u32) -> io::Result<Connection> {
        let stream = TcpStream::connect(plan.target)?;
        stream.set_nodelay(true)?;
        let request = payload::request(plan.kind, &plan.target.to_string(), plan.parent);
        let mut connection = Connection { plan, number, next_id: number * 1_000_000, stream, request };
        for _ in 0..20 {
            connection.exchange()?;
        }
        Ok(connection)
    }

    /// Sends this connection's part of one slice that began at `start`.
    fn slice(mut self, start: Instant) -> io::Result<(Connection, Vec<u64>)> {
        let plan = self.plan;
        let period = Duration::from_secs_f64(f64::from(plan.connections) / f64::from(plan.rate));
        let count = plan.milliseconds * plan.rate / plan.connections / 1000;
        let mut due = start + START_UP + period * self.number / plan.connections;
        let mut latencies = Vec::with_capacity(count as usize);
        let mut answered = start;
        for _ in 0..count {
            let was_busy = answered > due;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = if was_busy { due } else { Instant::now() };
            self.exchange()?;
            answered = Instant::now();
            latencies.push((answered - sent).as_nanos() as u64);
            due += period;
        }
        Ok((self, latencies))
    }

    /// One request and its answer.
    fn exchange(&mut self) -> io::Result<()> {
        self.next_id += 1;
        let id = payload::id_digits(self.next_id);
        self.stream.write_all(self.request.with(&id, u64::from(self.next_id)))?;
        let mut buffer = [0; 8192];
        let mut filled = 0;
        // A small answer's result is an object, and the last thing in the message.
        while !buffer[..filled].ends_with(b"}}") {
            match self.stream.read(&mut buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        let ok = buffer.starts_with(b"HTTP/1.1 200");
        if ok { Ok(()) } else { Err(io::Error::other("not 200")) }
    }
}
