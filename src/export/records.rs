//! Log records on their way to the collector: `opentelemetry/proto/logs/v1/logs.proto`. Whoever has a record never
//! waits: over the bound it is dropped and counted.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::export::Resource;
use crate::export::config::LogsConfig;
use crate::export::connect::Lane;
use crate::export::otlp::{SCHEMA_URL, SCOPE_NAME};
use crate::export::sender::{Batch, Delivery, Sender};
use crate::metrics::{ExportMetrics, SignalMetrics};
use crate::net::tls::TlsError;

/// Something that is worth a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it happened.
    pub at: SystemTime,
    /// How much it matters.
    pub severity: Severity,
    /// What it is.
    pub body: Cow<'static, str>,
    /// What is to be said of it.
    pub attributes: Vec<(&'static str, Said)>,
    /// The context that it belongs to, where there is one.
    pub context: Option<(TraceId, SpanId, TraceFlags)>,
}

/// How much a record matters, by the numbers of the log data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Of use to whoever follows the code.
    Trace = 1,
    /// Of use to whoever looks for a fault.
    Debug = 5,
    /// What happens.
    Info = 9,
    /// What may be wrong.
    Warn = 13,
    /// What is wrong.
    Error = 17,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Trace => "TRACE",
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        }
    }
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Any number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
}

/// The way of records out. Clones share it.
#[derive(Clone, Debug)]
pub struct Records {
    out: mpsc::Sender<Record>,
    metrics: SignalMetrics,
}

impl Records {
    /// Hands a record over, if there is room.
    pub fn push(&self, record: Record) {
        if self.out.try_send(record).is_err() {
            self.metrics.dropped.inc();
        }
    }

    /// Counts records that found no room before they came here.
    pub fn missed(&self, count: u64) {
        self.metrics.dropped.inc_by(count);
    }
}

/// Sends records until it is told to stop.
pub struct Forwarder {
    records: mpsc::Receiver<Record>,
    sender: Arc<Sender>,
    hurry: watch::Sender<bool>,
    resource: v1::Resource,
    delay: Duration,
    max_batch: usize,
    metrics: SignalMetrics,
}

/// Makes the way out and its far end.
///
/// # Errors
/// If a TLS file cannot be used.
pub fn build(
    config: &LogsConfig,
    resource: &Resource,
    metrics: SignalMetrics,
) -> Result<(Records, Forwarder), TlsError> {
    let (hurry, hurried) = watch::channel(false);
    let sender = Sender::new(config.otlp.clone(), None, ExportMetrics::default(), hurried)?;
    let (out, records) = mpsc::channel(config.max_queue);
    let forwarder = Forwarder {
        records,
        sender: Arc::new(sender),
        hurry,
        resource: resource.to_proto(),
        delay: config.delay,
        max_batch: config.max_batch,
        metrics: metrics.clone(),
    };
    Ok((Records { out, metrics }, forwarder))
}

impl Forwarder {
    /// Sends until `stop`, and then what waits for at most `last`. What is left is counted as dropped.
    pub async fn run(mut self, stop: impl Future<Output = ()>, last: Duration) {
        let mut stop = pin!(stop);
        let mut lane = Lane::default();
        let mut batch = Vec::new();
        let until = loop {
            tokio::select! {
                () = self.gather(&mut batch) => {}
                () = &mut stop => break Instant::now() + last,
            }
            // A request that has begun goes on: it must not be sent twice.
            let mut sending = pin!(self.send(&mut batch, &mut lane));
            tokio::select! {
                () = &mut sending => continue,
                () = &mut stop => {}
            }
            let until = Instant::now() + last;
            self.hurry();
            // What is given up here is still in the batch.
            let _ = tokio::time::timeout_at(until, sending).await;
            break until;
        };
        self.hurry();
        self.records.close();
        let rest = async {
            loop {
                while batch.len() < self.max_batch
                    && let Ok(record) = self.records.try_recv()
                {
                    batch.push(record);
                }
                if batch.is_empty() {
                    return;
                }
                self.send(&mut batch, &mut lane).await;
            }
        };
        let _ = tokio::time::timeout_at(until, rest).await;
        let mut left = batch.len();
        while self.records.try_recv().is_ok() {
            left += 1;
        }
        self.metrics.dropped.inc_by(left as u64);
    }

    /// Has waits for the collector end.
    fn hurry(&self) {
        // Nobody listens when there is nothing to hurry.
        let _ = self.hurry.send(true);
    }

    /// Gathers a batch for as long as its first record may wait. What is in `batch` stays there when this is dropped.
    async fn gather(&mut self, batch: &mut Vec<Record>) {
        if batch.is_empty() {
            batch.extend(self.records.recv().await);
        }
        let until = Instant::now() + self.delay;
        while batch.len() < self.max_batch {
            let room = self.max_batch - batch.len();
            match tokio::time::timeout_at(until, self.records.recv_many(batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
    }

    async fn send(&self, records: &mut Vec<Record>, lane: &mut Lane) {
        let count = records.len();
        let body = request(records, &self.resource).encode_to_vec();
        let batch = Batch { spans: count, bytes: body.len(), parts: vec![Bytes::from(body)], number: 0 };
        let delivery = self.sender.deliver(lane, &batch).await;
        records.clear();
        let count = count as u64;
        match delivery {
            Delivery::Accepted { rejected } => {
                self.metrics.exported.inc_by(count - rejected);
                self.metrics.failed.inc_by(rejected);
            }
            Delivery::Refused | Delivery::Expired => _ = self.metrics.failed.inc_by(count),
        }
    }
}

fn request(records: &[Record], resource: &v1::Resource) -> ExportLogsServiceRequest {
    let observed = unix_nanos(SystemTime::now());
    let scope = InstrumentationScope {
        name: SCOPE_NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let schema_url = SCHEMA_URL.to_owned();
    let log_records = records.iter().map(|record| log_record(record, observed)).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, schema_url: schema_url.clone() }];
    let all = ResourceLogs { resource: Some(resource.clone()), scope_logs, schema_url };
    ExportLogsServiceRequest { resource_logs: vec![all] }
}

fn log_record(record: &Record, observed: u64) -> LogRecord {
    let value = |value| Some(AnyValue { value: Some(value) });
    let attribute = |(key, said): &(&'static str, Said)| {
        let said = match said {
            Said::Text(text) => any_value::Value::StringValue(text.clone()),
            Said::Int(number) => any_value::Value::IntValue(*number),
            Said::Double(number) => any_value::Value::DoubleValue(*number),
            Said::Bool(truth) => any_value::Value::BoolValue(*truth),
        };
        KeyValue { key: (*key).to_owned(), value: value(said), ..KeyValue::default() }
    };
    let context = record.context;
    LogRecord {
        time_unix_nano: unix_nanos(record.at),
        observed_time_unix_nano: observed,
        severity_number: record.severity as i32,
        severity_text: record.severity.as_str().to_owned(),
        body: value(any_value::Value::StringValue(record.body.clone().into_owned())),
        attributes: record.attributes.iter().map(attribute).collect(),
        flags: context.map_or(0, |(_, _, flags)| u32::from(flags.to_u8())),
        trace_id: context.map(|(trace, ..)| trace.to_bytes().to_vec()).unwrap_or_default(),
        span_id: context.map(|(_, span, _)| span.to_bytes().to_vec()).unwrap_or_default(),
        ..LogRecord::default()
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
