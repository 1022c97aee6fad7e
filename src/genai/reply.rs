//! What an answer says of itself: the model that gave it, why it ended, what it took, and how it
//! failed; whether it comes whole or as events.

use super::api::Api;
use super::keys::{ChoiceKey, DetailsKey, ErrorKey, IncompleteKey, ReplyKey, UsageKey};
use crate::mcp::message::{Doubt, Text};
use crate::mcp::values::{Outcome, Reader, count, each, object, text};

/// The most choices whose end is told.
const MAX_CHOICES: usize = 16;
/// The longest text that is kept, in bytes; what is longer counts as absent.
const MAX_TEXT_BYTES: usize = 256;
/// The longest kind of error, in bytes: they are few and short.
const MAX_ERROR_BYTES: usize = 64;
/// The kind of an error that does not name it.
const OTHER: &str = "_OTHER";

/// What is known of an answer so far.
#[derive(Debug, PartialEq)]
pub struct Reply {
    api: Api,
    begun: bool,
    /// Its id.
    pub id: Option<Box<str>>,
    /// The model that gave it.
    pub model: Option<Box<str>>,
    /// Why each choice ended; empty where that is not known, 16 at most.
    pub finish_reasons: Vec<Box<str>>,
    /// OpenAI's class of service.
    pub service_tier: Option<Box<str>>,
    /// OpenAI's mark of the configuration that answered.
    pub system_fingerprint: Option<Box<str>>,
    /// What it took.
    pub usage: Usage,
    /// The kind of error that it is, or that broke it off.
    pub error: Option<Box<str>>,
}

/// Tokens, as the provider counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    input: Option<i64>,
    /// Of the answer.
    pub output: Option<i64>,
    /// Of the input, those that were in the provider's cache.
    pub cache_read: Option<i64>,
    /// Of the input, those that were put there.
    pub cache_write: Option<i64>,
    /// Of the answer, those that were spent on reasoning.
    pub reasoning: Option<i64>,
    /// Whether the input is told without what the cache had.
    apart: bool,
}

impl Usage {
    /// Of the input, those from the cache included.
    pub fn input(&self) -> Option<i64> {
        let cached = [self.cache_read, self.cache_write].into_iter().flatten();
        let apart = if self.apart { cached.fold(0, i64::saturating_add) } else { 0 };
        self.input.map(|input| input.saturating_add(apart))
    }
}

impl Reply {
    /// An answer that is awaited.
    pub fn new(api: Api) -> Self {
        Reply {
            api,
            begun: false,
            id: None,
            model: None,
            finish_reasons: Vec::new(),
            service_tier: None,
            system_fingerprint: None,
            usage: Usage { apart: api == Api::Messages, ..Usage::default() },
            error: None,
        }
    }

    /// Says once that it begins.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// Takes in the whole answer, or the data of one event. What cannot be read says nothing; what
    /// stands before it is kept.
    pub fn read(&mut self, data: &[u8]) {
        let _ = self.try_read(data);
    }

    /// The same, and whether all of it could be read.
    pub(super) fn try_read(&mut self, data: &[u8]) -> Outcome {
        let mut scanner = Reader::new(data);
        if scanner.space() != b'{' {
            return Err(Doubt::NotObject);
        }
        self.object(&mut scanner, Depth::Outer)?;
        if scanner.is_done() { Ok(()) } else { Err(Doubt::NotJson) }
    }

    fn object(&mut self, scanner: &mut Reader<'_>, depth: Depth) -> Outcome {
        let mut code = None;
        let mut is_error = false;
        let read = object(scanner, |scanner, key| match key {
            ReplyKey::Id => keep_first(&mut self.id, text(scanner)?),
            ReplyKey::Model => keep_first(&mut self.model, text(scanner)?),
            ReplyKey::Choices => self.choices(scanner),
            ReplyKey::Usage => self.usage(scanner),
            ReplyKey::Error => self.error(scanner),
            ReplyKey::StopReason => {
                self.finished(0, text(scanner)?);
                Ok(())
            }
            ReplyKey::Status if self.api == Api::Responses => {
                let status = text(scanner)?.filter(|s| !s.eq_str("in_progress") && !s.eq_str("queued"));
                if self.finish_reasons.is_empty() {
                    self.finished(0, status);
                }
                Ok(())
            }
            ReplyKey::IncompleteDetails => object(scanner, |scanner, key| match key {
                IncompleteKey::Reason => {
                    self.finished(0, text(scanner)?);
                    Ok(())
                }
                IncompleteKey::Other => scanner.skip(),
            }),
            ReplyKey::ServiceTier => keep_last(&mut self.service_tier, text(scanner)?),
            ReplyKey::SystemFingerprint => keep_first(&mut self.system_fingerprint, text(scanner)?),
            // An event wraps what a whole answer has outside.
            ReplyKey::Response | ReplyKey::Message | ReplyKey::Delta if depth == Depth::Outer => {
                if scanner.peek() == b'{' { self.object(scanner, Depth::Wrapped) } else { scanner.skip() }
            }
            ReplyKey::Type if depth == Depth::Outer => {
                is_error = text(scanner)?.is_some_and(|kind| kind.eq_str("error"));
                Ok(())
            }
            ReplyKey::Code => {
                code = text(scanner)?;
                Ok(())
            }
            _ => scanner.skip(),
        });
        if is_error && self.error.is_none() {
            self.error = Some(kind_of(code));
        }
        read
    }

    fn choices(&mut self, scanner: &mut Reader<'_>) -> Outcome {
        let mut next = 0;
        each(scanner, |scanner| {
            let (mut index, mut reason) = (None, None);
            object(scanner, |scanner, key| {
                match key {
                    ChoiceKey::Index => index = count(scanner)?,
                    ChoiceKey::FinishReason => reason = text(scanner)?,
                    ChoiceKey::Other => scanner.skip()?,
                }
                Ok(())
            })?;
            self.finished(index.and_then(|index| usize::try_from(index).ok()).unwrap_or(next), reason);
            next += 1;
            Ok(())
        })
    }

    /// Notes why a choice ended, if that is said.
    fn finished(&mut self, choice: usize, reason: Option<Text<'_>>) {
        let Some(reason) = reason.and_then(short).filter(|_| choice < MAX_CHOICES) else { return };
        if self.finish_reasons.len() <= choice {
            self.finish_reasons.resize(choice + 1, Box::default());
        }
        self.finish_reasons[choice] = reason;
    }

    /// Later counts replace earlier ones: those of events are sums so far.
    fn usage(&mut self, scanner: &mut Reader<'_>) -> Outcome {
        let usage = &mut self.usage;
        object(scanner, |scanner, key| {
            let into = match key {
                UsageKey::PromptTokens | UsageKey::InputTokens => &mut usage.input,
                UsageKey::CompletionTokens | UsageKey::OutputTokens => &mut usage.output,
                UsageKey::CacheRead => &mut usage.cache_read,
                UsageKey::CacheCreation => &mut usage.cache_write,
                UsageKey::PromptDetails | UsageKey::InputDetails => {
                    return details(scanner, DetailsKey::Cached, &mut usage.cache_read);
                }
                UsageKey::CompletionDetails | UsageKey::OutputDetails => {
                    return details(scanner, DetailsKey::Reasoning, &mut usage.reasoning);
                }
                UsageKey::Other => return scanner.skip(),
            };
            *into = count(scanner)?.or(*into);
            Ok(())
        })
    }

    /// `null` where there is none.
    fn error(&mut self, scanner: &mut Reader<'_>) -> Outcome {
        if scanner.peek() == b'n' {
            return scanner.skip();
        }
        let (mut code, mut kind) = (None, None);
        let read = object(scanner, |scanner, key| {
            match key {
                ErrorKey::Code => code = text(scanner)?,
                ErrorKey::Type => kind = text(scanner)?,
                ErrorKey::Other => scanner.skip()?,
            }
            Ok(())
        });
        self.error = Some(kind_of(code.or(kind)));
        read
    }
}

/// Whether an object is the outermost, or stands in one of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Outer,
    Wrapped,
}

fn details(scanner: &mut Reader<'_>, wanted: DetailsKey, into: &mut Option<i64>) -> Outcome {
    object(scanner, |scanner, key: DetailsKey| {
        if key != wanted {
            return scanner.skip();
        }
        *into = count(scanner)?.or(*into);
        Ok(())
    })
}

fn keep_first(into: &mut Option<Box<str>>, text: Option<Text<'_>>) -> Result<(), Doubt> {
    if into.is_none() {
        *into = text.and_then(short);
    }
    Ok(())
}

fn keep_last(into: &mut Option<Box<str>>, text: Option<Text<'_>>) -> Result<(), Doubt> {
    *into = text.and_then(short).or_else(|| into.take());
    Ok(())
}

fn short(text: Text<'_>) -> Option<Box<str>> {
    (1..=MAX_TEXT_BYTES).contains(&text.raw().len()).then(|| text.decode().into())
}

/// The kind of an error as `error.type`, if it is a word.
fn kind_of(named: Option<Text<'_>>) -> Box<str> {
    let is_word = |text: &Text<'_>| {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        (1..=MAX_ERROR_BYTES).contains(&text.raw().len()) && text.raw().bytes().all(word)
    };
    named.filter(is_word).map_or(OTHER, |text| text.raw()).into()
}
