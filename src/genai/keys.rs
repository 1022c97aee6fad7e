//! The members that are read of requests and answers.

use crate::mcp::keys::{Keys, WINDOW, keys};
use crate::mcp::message::Text;

keys! {
    /// A request. `max_completion_tokens` and `max_output_tokens` are newer names of `max_tokens`.
    RequestKey {
        Model = "model",
        Messages = "messages",
        Input = "input",
        Prompt = "prompt",
        PreviousResponse = "previous_response_id",
        Stream = "stream",
        MaxTokens = "max_tokens",
        MaxCompletionTokens = "max_completion_tokens",
        MaxOutputTokens = "max_output_tokens",
        Temperature = "temperature",
        TopP = "top_p",
        TopK = "top_k",
        Seed = "seed",
        Choices = "n",
        FrequencyPenalty = "frequency_penalty",
        PresencePenalty = "presence_penalty",
        Stop = "stop",
        StopSequences = "stop_sequences",
        ServiceTier = "service_tier",
        Dimensions = "dimensions",
    }

    /// An answer, an event of one, or what an event wraps.
    ReplyKey {
        Id = "id",
        Type = "type",
        Code = "code",
        Model = "model",
        Choices = "choices",
        Usage = "usage",
        Error = "error",
        StopReason = "stop_reason",
        Status = "status",
        IncompleteDetails = "incomplete_details",
        ServiceTier = "service_tier",
        SystemFingerprint = "system_fingerprint",
        Response = "response",
        Message = "message",
        Delta = "delta",
    }

    /// One of the choices.
    ChoiceKey {
        Index = "index",
        FinishReason = "finish_reason",
    }

    /// Why a response of OpenAI is not complete.
    IncompleteKey {
        Reason = "reason",
    }

    /// `usage`.
    UsageKey {
        PromptTokens = "prompt_tokens",
        InputTokens = "input_tokens",
        CompletionTokens = "completion_tokens",
        OutputTokens = "output_tokens",
        CacheRead = "cache_read_input_tokens",
        CacheCreation = "cache_creation_input_tokens",
        PromptDetails = "prompt_tokens_details",
        InputDetails = "input_tokens_details",
        CompletionDetails = "completion_tokens_details",
        OutputDetails = "output_tokens_details",
    }

    /// What of the tokens of one side was special.
    DetailsKey {
        Cached = "cached_tokens",
        Reasoning = "reasoning_tokens",
    }

    /// `error`.
    ErrorKey {
        Code = "code",
        Type = "type",
    }
}
