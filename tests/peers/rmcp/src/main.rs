//! A scripted MCP client and server on the Rust SDK.
//!
//! ```text
//! meshtrace-peer-rmcp server MODE        MODE: json | sse
//! meshtrace-peer-rmcp client ERA URL     ERA:  auto | legacy
//! ```
//!
//! The server offers the same tools as those of the other languages, the client makes the same
//! calls in the same order. Nothing here knows of tracing; the tool `seen` only tells what arrived.

mod client;
mod server;
mod transcript;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", mode] => server::serve(mode == "json").await,
        ["client", era, url] => client::run(era == "legacy", url).await,
        _ => Err("usage: server MODE | client ERA URL".into()),
    }
}
