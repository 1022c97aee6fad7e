//! A byte that need not change leaves as it came: heads, bodies and their
//! framing, streams, tunnels, over HTTP/1 and HTTP/2, in every direction.

mod bodies;
mod expect;
mod heads;
mod http10;
mod http2;
mod streams;
mod tunnels;
mod volume;
