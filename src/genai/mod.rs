//! Calls of language models, in the shapes of OpenAI (chat completions, completions, responses,
//! embeddings) and of Anthropic (messages), which most other providers speak too: which requests
//! are such calls, and what they and their answers say of themselves.
//!
//! Nothing here does I/O, and nothing is read of what was asked and answered: only names, numbers
//! and reasons.

mod api;
mod fuzz;
mod keys;
mod reply;
mod request;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use api::Api;
#[doc(hidden)]
pub use fuzz::fuzz_genai;
pub use reply::Reply;
pub use request::Request;

/// A call of a model.
#[derive(Debug)]
pub struct Call<'a> {
    /// The shape of the request and its answer.
    pub api: Api,
    /// `gen_ai.provider.name`.
    pub provider: &'static str,
    /// The model that is asked for, where that can be read.
    pub model: Option<Cow<'a, str>>,
    /// What else the request says; `None` where its body was not read.
    pub request: Option<Request<'a>>,
}

/// A request that may be a call of a model.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The host that it goes to.
    pub host: &'a str,
    /// The path, without its query.
    pub path: &'a str,
    /// The whole body, or `None` where there is a body of JSON that cannot be read.
    pub body: Option<&'a [u8]>,
    /// Whether the head has `anthropic-version`.
    pub is_versioned: bool,
}

impl<'a> Call<'a> {
    /// Recognises a call: by its path and by the members of its body, or by a path of the first
    /// version of an API alone where the body cannot be read.
    pub fn of(candidate: Candidate<'a>) -> Option<Self> {
        let path = candidate.path.trim_end_matches('/');
        let (api, before) = Api::of_path(path)?;
        let deployment = api::deployment(before);
        let request =
            match candidate.body {
                Some(body) => Some(Request::read(body).filter(|request| {
                    request.has_input && (request.model.is_some() || deployment.is_some())
                })?),
                None if before.ends_with("/v1") && (api != Api::Messages || candidate.is_versioned) => None,
                None if deployment.is_some() => None,
                None => return None,
            };
        let named = request.as_ref().and_then(|request| request.model).map(|model| model.decode());
        Some(Call {
            api,
            provider: api.provider(candidate.host, deployment.is_some()),
            model: named.or(deployment.map(Cow::Borrowed)),
            request,
        })
    }
}
