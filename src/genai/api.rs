//! Which API a path belongs to, and whose it is.

/// The shape of a request and of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's `/chat/completions`.
    ChatCompletions,
    /// OpenAI's older `/completions`.
    Completions,
    /// OpenAI's `/responses`.
    Responses,
    /// OpenAI's `/embeddings`.
    Embeddings,
    /// Anthropic's `/messages`.
    Messages,
}

/// Hosts and the providers whose APIs they serve, as the conventions call them. A name that begins
/// with a dot stands for all below it.
const PROVIDERS: [(&str, &str); 17] = [
    ("api.openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".models.ai.azure.com", "azure.ai.inference"),
    ("api.anthropic.com", "anthropic"),
    (".amazonaws.com", "aws.bedrock"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("-aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".cohere.com", "cohere"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.x.ai", "x_ai"),
];

impl Api {
    /// The API that a path without a trailing slash ends in, and what stands before it.
    pub fn of_path(path: &str) -> Option<(Self, &str)> {
        // The last segment decides most.
        let (before, last) = path.rsplit_once('/')?;
        let api = match last {
            "completions" => match before.strip_suffix("/chat") {
                Some(before) => return Some((Api::ChatCompletions, before)),
                None => Api::Completions,
            },
            "responses" => Api::Responses,
            "embeddings" => Api::Embeddings,
            "messages" => Api::Messages,
            _ => return None,
        };
        Some((api, before))
    }

    /// `gen_ai.operation.name`.
    pub fn operation(self) -> &'static str {
        match self {
            Api::ChatCompletions | Api::Responses | Api::Messages => "chat",
            Api::Completions => "text_completion",
            Api::Embeddings => "embeddings",
        }
    }

    /// `openai.api.type`, where the conventions name one.
    pub fn openai_type(self) -> Option<&'static str> {
        match self {
            Api::ChatCompletions => Some("chat_completions"),
            Api::Responses => Some("responses"),
            _ => None,
        }
    }

    /// `gen_ai.provider.name`: by the host, else the one whose shape it is.
    pub(super) fn provider(self, host: &str, has_deployment: bool) -> &'static str {
        let host = host.trim_end_matches('.');
        let is = |known: &str| match known.starts_with(['.', '-']) {
            true => {
                host.len() > known.len()
                    && host.get(host.len() - known.len()..).is_some_and(|end| end.eq_ignore_ascii_case(known))
            }
            false => host.eq_ignore_ascii_case(known),
        };
        match PROVIDERS.iter().find(|(known, _)| is(known)) {
            Some((_, provider)) => provider,
            None if has_deployment => "azure.ai.openai",
            None if self == Api::Messages => "anthropic",
            None => "openai",
        }
    }
}

/// The deployment in a path of Azure, which stands for the model.
pub(super) fn deployment(before: &str) -> Option<&str> {
    let (_, deployment) = before.rsplit_once("/openai/deployments/")?;
    (!deployment.is_empty() && !deployment.contains('/')).then_some(deployment)
}
