//! What a request says of itself beside the conversation.

use super::keys::RequestKey;
use crate::mcp::message::{Doubt, Text};
use crate::mcp::values::{Reader, count, each, object, quantity, text, truth};

/// The most stop sequences that are read.
const MAX_STOPS: usize = 16;

/// The parameters of a request (`gen_ai.request.*`).
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// The model.
    pub model: Option<Text<'a>>,
    /// Whether there is something to answer: messages, an input, a prompt.
    pub has_input: bool,
    /// Whether the answer is to come in pieces.
    pub stream: bool,
    /// The most tokens of the answer.
    pub max_tokens: Option<i64>,
    /// Sampling of the model.
    pub temperature: Option<f64>,
    /// Sampling of the model.
    pub top_p: Option<f64>,
    /// Sampling of the model.
    pub top_k: Option<f64>,
    /// Sampling of the model.
    pub frequency_penalty: Option<f64>,
    /// Sampling of the model.
    pub presence_penalty: Option<f64>,
    /// What the sampling begins with.
    pub seed: Option<i64>,
    /// How many answers are asked for.
    pub choices: Option<i64>,
    /// Texts that end the answer, 16 at most.
    pub stops: Vec<Text<'a>>,
    /// OpenAI's class of service.
    pub service_tier: Option<Text<'a>>,
    /// The length of an embedding.
    pub dimensions: Option<i64>,
}

impl<'a> Request<'a> {
    /// Reads a body of JSON; `None` where it is no object, or has a known member twice.
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut request = Request::default();
        let mut scanner = Reader::new(body);
        if scanner.space() != b'{' {
            return None;
        }
        let read = object(&mut scanner, |scanner, key| request.member(scanner, key));
        (read.is_ok() && scanner.is_done()).then_some(request)
    }

    fn member(&mut self, scanner: &mut Reader<'a>, key: RequestKey) -> Result<(), Doubt> {
        match key {
            RequestKey::Model => self.model = text(scanner)?,
            RequestKey::Messages | RequestKey::Input | RequestKey::Prompt | RequestKey::PreviousResponse => {
                self.has_input |= matches!(scanner.peek(), b'[' | b'"' | b'{');
                return scanner.skip();
            }
            RequestKey::Stream => self.stream = truth(scanner)?,
            RequestKey::MaxTokens | RequestKey::MaxCompletionTokens | RequestKey::MaxOutputTokens => {
                self.max_tokens = count(scanner)?.or(self.max_tokens);
            }
            RequestKey::Temperature => self.temperature = quantity(scanner)?,
            RequestKey::TopP => self.top_p = quantity(scanner)?,
            RequestKey::TopK => self.top_k = quantity(scanner)?,
            RequestKey::Seed => self.seed = count(scanner)?,
            RequestKey::Choices => self.choices = count(scanner)?,
            RequestKey::FrequencyPenalty => self.frequency_penalty = quantity(scanner)?,
            RequestKey::PresencePenalty => self.presence_penalty = quantity(scanner)?,
            RequestKey::Stop | RequestKey::StopSequences => return self.stop(scanner),
            RequestKey::ServiceTier => self.service_tier = text(scanner)?,
            RequestKey::Dimensions => self.dimensions = count(scanner)?,
            RequestKey::Other => return scanner.skip(),
        }
        Ok(())
    }

    /// One text, or several.
    fn stop(&mut self, scanner: &mut Reader<'a>) -> Result<(), Doubt> {
        if scanner.peek() != b'[' {
            self.stops.extend(text(scanner)?);
            return Ok(());
        }
        each(scanner, |scanner| {
            let stop = text(scanner)?;
            self.stops.extend(stop.filter(|_| self.stops.len() < MAX_STOPS));
            Ok(())
        })
    }
}
