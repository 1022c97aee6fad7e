//! The scripted server: the tools, the resource and the prompt that every peer has.

use std::time::Duration;

use axum::http::request::Parts;
use rmcp::handler::server::router::prompt::PromptRouter;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    Implementation, ListResourcesResult, PaginatedRequestParams, ProgressNotificationParam,
    PromptMessage, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
    ResourceContents, Role, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, schemars};
use rmcp::{prompt, prompt_handler, prompt_router, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const NOTE: &str = "note://today";

#[derive(Deserialize, schemars::JsonSchema)]
struct Text {
    text: String,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Pair {
    a: i64,
    b: i64,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Millis {
    ms: u64,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Count {
    n: usize,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Name {
    name: String,
}

#[derive(Clone)]
struct Peer {
    tool_router: ToolRouter<Self>,
    prompt_router: PromptRouter<Self>,
}

#[tool_router]
impl Peer {
    #[tool(description = "Answers with its argument.")]
    async fn echo(&self, Parameters(Text { text }): Parameters<Text>) -> String {
        text
    }

    #[tool(description = "Adds two whole numbers.")]
    async fn add(&self, Parameters(Pair { a, b }): Parameters<Pair>) -> String {
        a.saturating_add(b).to_string()
    }

    #[tool(description = "Always fails, as a tool does.")]
    async fn fail(&self) -> Result<String, String> {
        Err("told to fail".to_owned())
    }

    #[tool(description = "Answers after so many milliseconds.")]
    async fn slow(&self, Parameters(Millis { ms }): Parameters<Millis>) -> String {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        format!("waited {ms}")
    }

    #[tool(description = "Reports progress `n` times, then answers.")]
    async fn stream(
        &self,
        Parameters(Count { n }): Parameters<Count>,
        context: RequestContext<RoleServer>,
    ) -> String {
        if let Some(token) = context.meta.get_progress_token() {
            for step in 1..=n {
                let progress = ProgressNotificationParam::new(token.clone(), step as f64)
                    .with_total(n as f64)
                    .with_message(format!("step {step}"));
                let _ = context.peer.notify_progress(progress).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        format!("{n} steps")
    }

    #[tool(description = "Answers with the length of its argument.")]
    async fn measure(&self, Parameters(Text { text }): Parameters<Text>) -> String {
        text.len().to_string()
    }

    #[tool(description = "Answers with `n` characters.")]
    async fn blob(&self, Parameters(Count { n }): Parameters<Count>) -> String {
        "0123456789abcdef".chars().cycle().take(n).collect()
    }

    #[tool(description = "Answers with the trace context that arrived with this very call.")]
    async fn seen(
        &self,
        Parameters(Text { text }): Parameters<Text>,
        context: RequestContext<RoleServer>,
    ) -> String {
        let (mut meta, mut header) = (Map::new(), Map::new());
        let parts = context.extensions.get::<Parts>();
        for key in ["traceparent", "tracestate", "baggage"] {
            if let Some(value) = context.meta.get(key) {
                meta.insert(key.to_owned(), value.clone());
            }
            let value = parts.and_then(|parts| parts.headers.get(key)?.to_str().ok());
            if let Some(value) = value {
                header.insert(key.to_owned(), Value::from(value));
            }
        }
        json!({ "text": text, "meta": meta, "header": header }).to_string()
    }
}

#[prompt_router]
impl Peer {
    #[prompt(description = "Asks for a greeting.")]
    async fn greet(&self, Parameters(Name { name }): Parameters<Name>) -> Vec<PromptMessage> {
        vec![PromptMessage::new_text(
            Role::User,
            format!("Please greet {name}."),
        )]
    }
}

#[tool_handler(router = self.tool_router)]
#[prompt_handler(router = self.prompt_router)]
impl ServerHandler for Peer {
    fn get_info(&self) -> ServerConfig {
        let able = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources();
        ServerConfig::new(able.build()).with_server_info(Implementation::new("peer", "1"))
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new(
            NOTE, "note",
        )]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != NOTE {
            return Err(ErrorData::resource_not_found(
                format!("no {}", request.uri),
                None,
            ));
        }
        let note = ResourceContents::text("nothing to report", NOTE);
        Ok(ReadResourceResult::new(vec![note]).into())
    }
}

/// Binds a free loopback port, prints `LISTENING <port>` and serves until SIGTERM. In JSON mode
/// the handshake era has no sessions, which is the only way this SDK answers it in JSON.
pub async fn serve(json: bool) -> Result<(), crate::Failure> {
    let mut config = StreamableHttpServerConfig::default();
    config.json_response = json;
    config.legacy_session_mode = !json;
    let build = || {
        let (tool_router, prompt_router) = (Peer::tool_router(), Peer::prompt_router());
        Ok(Peer {
            tool_router,
            prompt_router,
        })
    };
    let service: StreamableHttpService<Peer, LocalSessionManager> =
        StreamableHttpService::new(build, Default::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("LISTENING {}", listener.local_addr()?.port());
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    Ok(())
}
