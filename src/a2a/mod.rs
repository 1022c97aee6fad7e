//! What a proxy has to know about A2A, the protocol in which agents call agents, over JSON-RPC:
//! which messages are its, in the names of version 1.0 and of 0.3 and before, and what they and
//! their answers say of themselves.
//!
//! Some of its names are MCP's too. What neither header nor shape tells apart is left to MCP.

mod fuzz;
mod keys;
mod method;
mod reply;
mod request;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

#[doc(hidden)]
pub use fuzz::fuzz_a2a;
pub use method::{Method, lookup};
pub use reply::Reply;
pub use request::Request;

/// A message to an agent.
#[derive(Debug)]
pub struct Call<'a> {
    /// What is asked for.
    pub method: &'static Method,
    /// The version of the protocol, where it is said.
    pub version: Option<Cow<'a, str>>,
    /// What else the message says.
    pub request: Request<'a>,
}

impl<'a> Call<'a> {
    /// Recognises a message by its method, and where that proves little by the header
    /// `A2A-Version` or by its parameters. `body` is the whole message.
    pub fn of(method: &'static Method, version: Option<&'a str>, body: &'a [u8]) -> Option<Self> {
        let request = Request::read(body)?;
        if version.is_none() && !method.is_shaped(&request) {
            return None;
        }
        // Who says nothing means what there was before the header (A2A 1.0, section 3.6).
        let before = method.is_old().then_some("0.3");
        Some(Call { method, version: version.or(before).map(Cow::Borrowed), request })
    }
}
