//! The two agents of the demo: what their tools do. Nothing here knows of tracing.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Map, Value, json};

use super::calls;

/// The city that has no weather station.
pub(super) const NO_STATION: &str = "Atlantis";

/// The `_meta` keys that an agent copies from the call it serves to the calls it makes. The MCP Python SDK
/// 2.x does exactly this, without any telemetry installed: the trace context goes on, `baggage` does not.
const PASSED_ON: [&str; 2] = ["traceparent", "tracestate"];

/// The same for the person who watches.
pub(super) const PASSING_ON: &str = "it knows nothing of tracing, but copies traceparent and tracestate from the _meta \
    of the call it serves to the calls it makes, as the MCP Python SDK 2.x does";

/// An MCP agent with one tool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Agent {
    /// `weather-agent`: `forecast(city)` answers by itself.
    Weather,
    /// `research-agent`: `research(city)` asks the tool `forecast` at this address.
    Research {
        /// Where its MCP client sends calls.
        forecasts: SocketAddr,
    },
}

/// What a tool answered.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ToolAnswer {
    /// Its text.
    pub(super) text: String,
    /// Whether it is MCP's `isError`: the tool ran and failed.
    pub(super) is_error: bool,
}

impl Agent {
    /// The agent's name, and the service name of its sidecar.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weather => "weather-agent",
            Self::Research { .. } => "research-agent",
        }
    }

    /// The name of its tool.
    pub(super) fn tool(self) -> &'static str {
        match self {
            Self::Weather => "forecast",
            Self::Research { .. } => "research",
        }
    }

    /// What `tools/list` says of its tool.
    pub(super) fn description(self) -> Value {
        let text = match self {
            Self::Weather => "The weather of a city",
            Self::Research { .. } => "What is worth knowing about a city",
        };
        json!({
            "name": self.tool(),
            "description": text,
            "inputSchema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        })
    }

    /// Runs the tool. `meta` is the `_meta` of the call, empty if it has none.
    pub(super) async fn run(self, arguments: &Value, meta: &Map<String, Value>) -> ToolAnswer {
        let Some(city) = arguments.get("city").and_then(Value::as_str) else {
            return ToolAnswer::failed("the argument \"city\" is required and is a string");
        };
        match self {
            Self::Weather => forecast(city).await,
            Self::Research { forecasts } => research(city, forecasts, meta).await,
        }
    }
}

impl ToolAnswer {
    fn good(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: false }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_error: true }
    }
}

async fn forecast(city: &str) -> ToolAnswer {
    // The weather of a city is always the same, and so is the time that its station takes to answer.
    let sum: u64 = city.bytes().map(u64::from).sum();
    tokio::time::sleep(Duration::from_millis(5 + sum % 20)).await;
    if city == NO_STATION {
        return ToolAnswer::failed("no station there");
    }
    let sky = ["clear", "cloudy", "rain", "wind"][(sum % 4) as usize];
    ToolAnswer::good(format!("{} °C, {sky}", 5 + sum % 25))
}

async fn research(city: &str, forecasts: SocketAddr, meta: &Map<String, Value>) -> ToolAnswer {
    let mut request = calls::tool_call("forecast", city);
    let passed_on = PASSED_ON.into_iter().filter_map(|key| {
        let value = meta.get(key).filter(|value| value.is_string())?;
        Some((key.to_owned(), value.clone()))
    });
    if let Some(meta) = request["params"]["_meta"].as_object_mut() {
        meta.extend(passed_on);
    }
    match calls::send(forecasts, &request).await {
        Err(error) => ToolAnswer::failed(format!("{city}: no forecast: {error}")),
        Ok(result) => match calls::tool_answer(&result) {
            answer if answer.is_error => ToolAnswer::failed(format!("{city}: no forecast: {}", answer.text)),
            answer => ToolAnswer::good(format!("{city}: {}", answer.text)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_weather_is_reproducible_and_atlantis_has_none() {
        let none = Map::new();
        let oslo = Agent::Weather.run(&json!({"city": "Oslo"}), &none).await;
        assert!(!oslo.is_error);
        assert_eq!(oslo, Agent::Weather.run(&json!({"city": "Oslo"}), &none).await);
        let atlantis = Agent::Weather.run(&json!({"city": NO_STATION}), &none).await;
        assert_eq!(atlantis, ToolAnswer::failed("no station there"));
        for wrong in [json!({}), json!({"city": 7}), Value::Null] {
            assert!(Agent::Weather.run(&wrong, &none).await.is_error);
        }
    }

    #[tokio::test]
    async fn research_without_a_weather_agent_fails_and_says_so() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let forecasts = closed.local_addr().unwrap();
        drop(closed);
        let agent = Agent::Research { forecasts };
        let answer = agent.run(&json!({"city": "Oslo"}), &Map::new()).await;
        assert!(answer.is_error);
        assert!(answer.text.starts_with("Oslo: no forecast: no connection"), "{}", answer.text);
    }
}
