//! An MCP-like server that answers without thinking. `upstream --listen ADDR`.
//!
//! The path names the kind of answer (`payload::Kind`). Open streams and unanswered requests are
//! steered by plain GETs: `/ctl/emit/COUNT/RATE` sends COUNT events at RATE a second, one after
//! the other to every open stream, and answers when all are sent; `/ctl/finish` ends all that is
//! open with a result; `/ctl/stats` says how many connections and requests came, and how many
//! streams are open.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use meshtrace_load::args::Args;
use meshtrace_load::payload::{self, ID_DIGITS, Kind, Template};
use meshtrace_load::wire::Reader;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// An exchange whose end is still to come.
struct Open {
    kind: Kind,
    id: [u8; ID_DIGITS],
    writer: OwnedWriteHalf,
}

#[derive(Default)]
struct State {
    connections: Cell<u64>,
    requests: Cell<u64>,
    /// By a number that only grows: the order in which they were opened.
    open: RefCell<BTreeMap<u64, Open>>,
    /// Events that a stream could not take at once. A run with any is void.
    refused: Cell<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let args = Args::from_env();
    let listener = TcpListener::bind(args.need::<SocketAddr>("listen")).await?;
    let state = Rc::new(State::default());
    LocalSet::new()
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                state.connections.set(state.connections.get() + 1);
                let state = Rc::clone(&state);
                tokio::task::spawn_local(async move { drop(serve(stream, state).await) });
            }
        })
        .await
}

/// Serves one connection; returns when the peer leaves.
async fn serve(stream: TcpStream, state: Rc<State>) -> io::Result<()> {
    let (mut input, mut output) = stream.into_split();
    let mut reader = Reader::default();
    let mut answers: Vec<(Kind, Template)> = Vec::new();
    while let Some(message) = reader.message(&mut input).await? {
        let head = &reader.bytes()[..message.head];
        let capitals = memchr::memmem::find(head, b"\r\nHost:").is_some();
        let path = path(head);
        if let Some(command) = path.strip_prefix(b"/ctl/") {
            let text = control(&state, &String::from_utf8_lossy(command)).await;
            reader.consume(&message);
            output.write_all(plain(&text).as_bytes()).await?;
            continue;
        }
        let Some(kind) = Kind::at(path) else {
            return Err(io::Error::other("unknown path"));
        };
        let id = id(&reader.bytes()[message.body.clone()]);
        state.requests.set(state.requests.get() + 1);
        reader.consume(&message);
        if matches!(kind, Kind::Open | Kind::Hang) {
            drop(reader);
            return hold(&state, Open { kind, id, writer: output }, input).await;
        }
        output.write_all(cached(&mut answers, kind, capitals).with(&id, 0)).await?;
    }
    Ok(())
}

/// The answer of `kind`, built at its first use on this connection. Its names have capitals where
/// those of the requests do, which are the same all along.
fn cached(answers: &mut Vec<(Kind, Template)>, kind: Kind, capitals: bool) -> &mut Template {
    let at = answers.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
        let mut answer = payload::answer(kind);
        if capitals {
            answer = answer.capitalised();
        }
        answers.push((kind, answer));
        answers.len() - 1
    });
    &mut answers[at].1
}

/// Keeps an exchange open until it is finished by command or its peer leaves.
async fn hold(state: &State, open: Open, input: OwnedReadHalf) -> io::Result<()> {
    if open.kind == Kind::Open {
        open.writer.try_write(payload::SSE_HEAD.as_bytes())?;
    }
    let key = state.open.borrow().last_key_value().map_or(0, |(key, _)| key + 1);
    state.open.borrow_mut().insert(key, open);
    let mut byte = [0];
    // Nothing more is asked on this connection, so the first readiness that yields is its end.
    loop {
        input.readable().await?;
        match input.try_read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    state.open.borrow_mut().remove(&key);
    Ok(())
}

async fn control(state: &State, command: &str) -> String {
    let mut words = command.split('/');
    match words.next() {
        Some("emit") => {
            let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            emit(state, number(), number()).await;
        }
        Some("finish") => finish(state),
        _ => {}
    }
    format!(
        "{{\"connections\":{},\"requests\":{},\"open\":{},\"refused\":{}}}\n",
        state.connections.get(),
        state.requests.get(),
        state.open.borrow().len(),
        state.refused.get(),
    )
}

/// Sends `count` events at `rate` a second, to the open streams in turn.
async fn emit(state: &State, count: u64, rate: u64) {
    let event = payload::progress(1);
    let mut clock = tokio::time::interval(Duration::from_millis(1));
    let per_tick = (rate / 1000).max(1);
    let (mut sent, mut after) = (0, None);
    while sent < count {
        clock.tick().await;
        for _ in 0..per_tick.min(count - sent) {
            let open = state.open.borrow();
            let next = after.and_then(|key| open.range(key + 1..).next());
            let Some((key, stream)) = next.or_else(|| open.first_key_value()) else {
                return;
            };
            after = Some(*key);
            if !matches!(stream.writer.try_write(event.as_bytes()), Ok(n) if n == event.len()) {
                state.refused.set(state.refused.get() + 1);
            }
            sent += 1;
        }
    }
}

fn finish(state: &State) {
    let (mut stream, mut json) = (payload::finish(), payload::answer(Kind::Small));
    for open in state.open.borrow().values() {
        let template = if open.kind == Kind::Open { &mut stream } else { &mut json };
        let bytes = template.with(&open.id, 0);
        if !matches!(open.writer.try_write(bytes), Ok(n) if n == bytes.len()) {
            state.refused.set(state.refused.get() + 1);
        }
    }
}

/// The path of a request line.
fn path(head: &[u8]) -> &[u8] {
    head.split(|&byte| byte == b' ').nth(1).unwrap_or_default()
}

/// The digits of the JSON-RPC id; the first id where there are none.
fn id(body: &[u8]) -> [u8; ID_DIGITS] {
    memchr::memmem::find(body, b"\"id\":")
        .and_then(|at| body.get(at + 5..at + 5 + ID_DIGITS))
        .and_then(|digits| digits.try_into().ok())
        .unwrap_or_else(|| payload::id_digits(0))
}

fn plain(text: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
}
