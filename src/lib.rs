//! meshtrace: a sidecar that traces MCP agents.
