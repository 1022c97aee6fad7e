//! The configuration in words, for the lines that are logged at start. They
//! hold no secret: endpoints and headers of the collector are for the export
//! room to describe.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::Config;
use super::value::{show_duration, show_size};
use crate::proxy::settings::{
    Destinations, Formats, IgnoreRule, Limits, Preference, Propagation, Redirected,
};
use crate::trace::links::Inference;

impl Config {
    /// What is in force, one subject per line.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for inbound in &self.inbound {
            let scheme = if inbound.secure { "https://" } else { "" };
            lines.push(format!("inbound {scheme}{} to {}", inbound.listen, inbound.app));
        }
        for outbound in &self.outbound {
            lines.push(match &outbound.target {
                Some(target) => format!("outbound {} to {target}", outbound.listen),
                None => format!("outbound {} as a forward proxy", outbound.listen),
            });
        }
        if !self.tls.originate.is_empty() {
            let hosts: Vec<String> = self.tls.originate.iter().map(ToString::to_string).collect();
            lines.push(format!("speaks TLS to {} although the agent does not", hosts.join(", ")));
        }
        if let Some(dir) = &self.install_shim {
            lines.push(format!("writes the shim's files to {}", dir.display()));
        }
        if !self.stop_after.is_empty() {
            let addresses: Vec<String> = self.stop_after.iter().map(ToString::to_string).collect();
            lines.push(format!("stops after nobody accepts on {} any more", addresses.join(", ")));
        }
        if let Some(Redirected { inbound, outbound, .. }) = &self.redirected {
            let installed = if self.capture.is_some() { ", rules installed here" } else { "" };
            lines
                .push(format!("redirected connections at {inbound} inbound, {outbound} outbound{installed}"));
        }
        let admin = self.admin.map_or_else(|| "off".to_owned(), |listen| listen.to_string());
        lines.push(format!("admin {admin}, {} worker(s)", self.workers));
        lines.push(format!("service {}", self.resource.service_name()));
        lines.push(if self.sdk_disabled {
            "records no spans (OTEL_SDK_DISABLED) and passes context on".to_owned()
        } else {
            format!("records {}", self.sampling.describe(self.resource.service_name()))
        });
        lines.push(propagation(&self.propagation));
        lines.push(limits(&self.limits));
        lines
    }

    /// Everything that is in force, as JSON, without secrets: of the
    /// collector's headers only the names, of its URL no credentials.
    pub fn effective(&self) -> String {
        let ignored: Vec<_> = self.spans.ignore.iter().map(rule).collect();
        let attributes = &self.attributes;
        let list = |source: String, name: &str| (source, Value::from(name));
        let from_header: Map<_, _> =
            attributes.from_header.iter().map(|(header, name)| list(header.to_string(), name)).collect();
        let from_baggage: Map<_, _> =
            attributes.from_baggage.iter().map(|(entry, name)| list(entry.clone(), name)).collect();
        let from_argument = attributes.from_argument.iter();
        let from_argument: Map<_, _> =
            from_argument.map(|(from, name)| list(format!("{}.{}", from.tool, from.name), name)).collect();
        let value = json!({
            "summary": self.summary(),
            "file": self.file.as_ref().map(|file| file.path().display().to_string()),
            "spans": { "http": self.spans.http, "notifications": self.spans.notifications, "ignore": ignored },
            "attributes": {
                "from_header": from_header,
                "from_baggage": from_baggage,
                "from_argument": from_argument,
                "capture_arguments": attributes.capture_arguments,
            },
            "export": self.export.describe(),
            "metrics": self.export.metrics.as_ref().map(|metrics| metrics.otlp.describe()),
            "logs": self.export.logs.as_ref().map(|logs| logs.otlp.describe()),
            "log": { "level": self.log_level.to_string(), "json": self.log_json, "access_log": self.access_log },
        });
        format!("{value:#}\n")
    }
}

fn rule(rule: &IgnoreRule) -> Value {
    let IgnoreRule { path, user_agent, method, host, task_status } = rule;
    let all = [
        ("path", path),
        ("user_agent", user_agent),
        ("method", method),
        ("host", host),
        ("task_status", task_status),
    ];
    let set = all.into_iter().filter_map(|(name, glob)| Some((name, glob.as_ref()?.as_str())));
    set.map(|(name, glob)| (name.to_owned(), Value::from(glob))).collect::<Map<_, _>>().into()
}

fn propagation(settings: &Propagation) -> String {
    let mut text = format!("propagates {}", formats(&settings.formats));
    match &settings.to {
        Destinations::Private => text.push_str(" to private destinations"),
        Destinations::All => text.push_str(" to all destinations"),
        Destinations::Hosts(hosts) if hosts.is_empty() => text.push_str(" to no destination"),
        Destinations::Hosts(hosts) => {
            let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
            let _ = write!(text, " to {}", hosts.join(", "));
        }
    }
    text.push_str(match settings.parent {
        Preference::Meta => "; _meta wins over headers",
        Preference::Header => "; headers win over _meta",
    });
    if !settings.write_meta {
        text.push_str("; _meta is not written");
    }
    text.push_str(match settings.inference {
        Inference::Guarded => "",
        Inference::Links => "; calls without context link to what could have made them",
        Inference::Off => "; calls without context stand alone",
    });
    if !settings.trust_inbound {
        text.push_str("; inbound context is linked to, not continued");
    }
    text
}

fn formats(formats: &Formats) -> String {
    let names = [
        (formats.tracecontext, "tracecontext"),
        (formats.baggage, "baggage"),
        (formats.b3, "b3"),
        (formats.b3multi, "b3multi"),
    ];
    let on: Vec<&str> = names.into_iter().filter_map(|(on, name)| on.then_some(name)).collect();
    if on.is_empty() { "nothing".to_owned() } else { on.join(", ") }
}

fn limits(limits: &Limits) -> String {
    let Limits {
        max_body_bytes,
        held_bytes,
        max_event_bytes,
        max_head_bytes,
        max_headers,
        max_connections,
        max_concurrent_streams,
        handshake_timeout,
        head_timeout,
        body_wait,
        body_gap,
        connect_timeout,
        response_timeout,
        drain_timeout,
        flush_timeout,
        expect_timeout,
        pending,
        pending_timeout,
        stream_spans,
    } = limits;
    let mut text = "limits".to_owned();
    let sizes = [
        ("body", max_body_bytes),
        ("held", held_bytes),
        ("event", max_event_bytes),
        ("head", max_head_bytes),
    ];
    for (name, bytes) in sizes {
        let _ = write!(text, " {name}_bytes={}", show_size(*bytes));
    }
    let _ = write!(
        text,
        " headers={max_headers} connections={max_connections} concurrent_streams={max_concurrent_streams} \
         pending={pending} stream_spans={stream_spans}"
    );
    let times = [
        ("handshake_timeout", handshake_timeout),
        ("head_timeout", head_timeout),
        ("body_wait", body_wait),
        ("body_gap", body_gap),
        ("connect_timeout", connect_timeout),
        ("response_timeout", response_timeout),
        ("drain_timeout", drain_timeout),
        ("flush_timeout", flush_timeout),
        ("expect_timeout", expect_timeout),
        ("pending_timeout", pending_timeout),
    ];
    for (name, time) in times {
        let _ = write!(text, " {name}={}", show_duration(*time));
    }
    text
}
