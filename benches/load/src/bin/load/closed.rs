//! Closed loop: a fixed number of connections, each of which asks again as soon as it is
//! answered, until a fixed number of requests is done.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use meshtrace_load::args::Args;
use meshtrace_load::payload::{self, ID_DIGITS, Kind, Template};
use meshtrace_load::wire::{Message, Reader};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};

use crate::{kind, latency_json, next_line, parent, say};

/// What one connection does and how it went.
struct Client {
    target: SocketAddr,
    kind: Kind,
    request: Template,
    stream: Option<TcpStream>,
    reader: Reader,
    next_id: u32,
    reconnect: bool,
    latencies: Vec<u64>,
    errors: u64,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: &Args) -> io::Result<()> {
    let (requests, warmup) = (args.get("requests", 10_000), args.get("warmup", 1_000));
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let mut clients = round(clients(args), warmup).await?;
            say("READY")?;
            while next_line()? {
                let start = Instant::now();
                clients = round(clients, requests).await?;
                report(start.elapsed().as_secs_f64(), &mut clients)?;
            }
            Ok(())
        })
        .await
}

fn clients(args: &Args) -> Vec<Client> {
    let target: SocketAddr = args.need("target");
    let count: u32 = args.get("connections", 64);
    let mut request = payload::request(kind(args), &target.to_string(), parent(args));
    if args.has("capitals") {
        request = request.capitalised();
    }
    let client = |number| Client {
        target,
        kind: kind(args),
        request: request.clone(),
        stream: None,
        reader: Reader::default(),
        // A range of ids of its own for each connection: one MCP session never repeats an id.
        next_id: number * (90_000_000 / count),
        reconnect: args.has("reconnect"),
        latencies: Vec::new(),
        errors: 0,
    };
    (0..count).map(client).collect()
}

/// Lets all clients together make `requests` requests.
async fn round(clients: Vec<Client>, requests: u64) -> io::Result<Vec<Client>> {
    let left = Rc::new(Cell::new(requests));
    let spawn = |mut client: Client| -> JoinHandle<io::Result<Client>> {
        let left = Rc::clone(&left);
        tokio::task::spawn_local(async move {
            client.latencies.clear();
            client.work(&left).await?;
            Ok(client)
        })
    };
    let running: Vec<_> = clients.into_iter().map(spawn).collect();
    let mut done = Vec::with_capacity(running.len());
    for task in running {
        done.push(task.await.map_err(io::Error::other)??);
    }
    Ok(done)
}

impl Client {
    async fn work(&mut self, left: &Cell<u64>) -> io::Result<()> {
        if !self.reconnect && self.stream.is_none() {
            self.stream = Some(connect(self.target).await?);
        }
        while left.get() > 0 {
            left.set(left.get() - 1);
            let start = Instant::now();
            if let Err(error) = self.exchange().await {
                if self.errors == 0 {
                    eprintln!("{error}");
                }
                self.errors += 1;
                self.stream = None;
                self.reader = Reader::default();
            }
            self.latencies.push(start.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    async fn exchange(&mut self) -> io::Result<()> {
        let stream = match self.stream.as_mut() {
            Some(stream) => stream,
            None => self.stream.insert(connect(self.target).await?),
        };
        let id = payload::id_digits(self.next_id);
        self.next_id += 1;
        stream.write_all(self.request.with(&id, u64::from(self.next_id))).await?;
        let message = self.reader.message(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let sound = is_sound(self.kind, self.reader.bytes(), &message, &id);
        self.reader.consume(&message);
        if self.reconnect {
            self.stream = None;
        }
        if sound { Ok(()) } else { Err(io::Error::other("not the expected answer")) }
    }
}

/// Whether the answer is a success and belongs to the request.
fn is_sound(kind: Kind, bytes: &[u8], message: &Message, id: &[u8; ID_DIGITS]) -> bool {
    let body = &bytes[message.body.clone()];
    let id_part = match kind {
        // The result is the last event, and it is small.
        Kind::SseBurst | Kind::SseSingle => &body[body.len().saturating_sub(600)..],
        _ => &body[..body.len().min(64)],
    };
    bytes.starts_with(b"HTTP/1.1 200") && memchr::memmem::find(id_part, id).is_some()
}

async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn report(seconds: f64, clients: &mut [Client]) -> io::Result<()> {
    let errors: u64 = clients.iter().map(|client| client.errors).sum();
    let latencies: Vec<u64> = clients.iter_mut().flat_map(|client| client.latencies.drain(..)).collect();
    say(&format!(
        "{{\"requests\":{},\"errors\":{errors},\"seconds\":{seconds:.6},{}}}",
        latencies.len(),
        latency_json(latencies),
    ))
}
