//! How a message ends: each way that is not its own answer, and what the end is told to.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::{Awaited, Forgotten, Waiting};
use crate::metrics::operations::{ErrorType, Exemplar, Status};
use crate::proxy::access_log::End;
use crate::proxy::worker::Worker;
use crate::trace::semconv as key;
use crate::trace::span::Span;

impl Waiting {
    /// The message was taken, if that is all that it waits for.
    pub(in crate::proxy::exchange) fn acknowledged(&mut self, worker: &Worker) {
        if matches!(self.awaited, Awaited::Acknowledgement) {
            self.end(worker);
        }
    }

    /// The response ended, and it holds no JSON-RPC answer to this message.
    pub(in crate::proxy::exchange) fn unanswered(&mut self, worker: &Worker, status: Option<StatusCode>) {
        if self.parked {
            return;
        }
        if let Some(status) = status.filter(|_| self.is_open()) {
            let unanswered = match &self.awaited {
                Awaited::Answer(_) => status == StatusCode::ACCEPTED || status.is_redirection(),
                _ => false,
            };
            let expected = status.is_success() && !unanswered;
            if let Some(span) = self.span.as_mut().filter(|_| !expected)
                && !self.awaited.is_http()
            {
                span.set_int(key::HTTP_RESPONSE_STATUS_CODE, i64::from(status.as_u16()));
            }
            let refused = status.as_u16() >= 400 || unanswered;
            if status.is_server_error() || (self.client && refused) {
                self.fails(ErrorType::Http(status.as_u16()), "");
            } else if refused {
                self.outcome.status = Status::Error;
            }
        }
        self.end(worker);
    }

    /// Ends the span as failed.
    pub(in crate::proxy::exchange) fn failed(
        &mut self,
        worker: &Worker,
        error_type: &'static str,
        description: &str,
    ) {
        if self.is_open() {
            self.fails(ErrorType::Named(error_type), description);
        }
        self.end(worker);
    }

    /// Nobody waits for the answer any more. Since 2026-07-28 that cancels
    /// the request; before, it explicitly does not.
    pub(in crate::proxy::exchange) fn abandoned(&mut self, worker: &Worker) {
        if self.parked {
            return;
        }
        self.outcome.status = Status::Cancelled;
        if let Some(span) = &mut self.span {
            let attribute = match &self.awaited {
                Awaited::Answer(answer) if !answer.modern => key::MESHTRACE_DISCONNECTED,
                // The task goes on, and can be subscribed to again.
                Awaited::Agent(_) => key::MESHTRACE_DISCONNECTED,
                _ => key::MESHTRACE_CANCELLED,
            };
            span.set_bool(attribute, true);
        }
        self.end(worker);
    }

    /// The client, or the server whose request this is, wants no answer any more.
    pub(in crate::proxy::exchange) fn cancelled(&mut self, worker: &Worker) {
        self.outcome.status = Status::Cancelled;
        if let Some(span) = &mut self.span {
            span.set_bool(key::MESHTRACE_CANCELLED, true);
        }
        self.end(worker);
    }

    /// Nobody can find it any more. If nobody else has it either, that is its end.
    pub(in crate::proxy::exchange) fn forgotten(&mut self, worker: &Worker, why: Forgotten) {
        self.place = None;
        if !self.parked {
            return;
        }
        match why {
            Forgotten::Displaced => self.noted("forgotten"),
            Forgotten::Stopping => self.noted("pending"),
            Forgotten::Overdue => return self.failed(worker, "timeout", "no answer came in time"),
            Forgotten::EndOfSession => {
                return self.failed(worker, "connection_closed", "the session ended without an answer");
            }
        }
        self.end(worker);
    }

    /// The span is of no interest after all.
    pub(in crate::proxy::exchange) fn discard(&mut self, worker: &Worker) {
        if let Some(span) = self.span.take() {
            worker.spans.give(span);
        }
        self.end(worker);
    }

    /// Says something of the response on the span.
    pub(in crate::proxy::exchange) fn noted(&mut self, what: &'static str) {
        if let Some(span) = &mut self.span {
            span.set_static(key::MESHTRACE_RESPONSE, what);
        }
    }

    /// Ends the span as it stands. Only the first call has an effect.
    pub(in crate::proxy::exchange) fn end(&mut self, worker: &Worker) {
        self.unplace(worker);
        if let Some(place) = self.remembered.take() {
            worker.tracer.server_spans.end(place);
        }
        if !self.is_open() {
            return;
        }
        self.completed();
        let took: Duration = self.started.elapsed();
        let mut exemplar = None;
        if let Some(mut span) = self.span.take() {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            span.end_unix_nanos = span.start_unix_nanos.saturating_add(nanos);
            let (trace_id, span_id) = (span.trace_id, span.span_id);
            let now = self.started + took;
            let kept = self.reason(&span, took);
            if span.flags.is_sampled() || kept.is_some() {
                exemplar = Some(Exemplar { trace_id, span_id, took, at_unix_nanos: span.end_unix_nanos });
                if let Some(reason) = kept {
                    span.set_static(key::MESHTRACE_SAMPLING_REASON, reason);
                }
                worker.record(span);
            } else {
                worker.hold(span, now);
            }
            if kept.is_some() {
                worker.keep(trace_id, None, now);
            }
        }
        self.kin = None;
        if let (Some(entry), Some(log)) = (self.log.take(), &worker.access_log) {
            let end = End { outcome: self.outcome, took, bytes: self.bytes, at: SystemTime::now() };
            log.write(*entry, &end);
        }
        if let Some(series) = self.series.take() {
            worker.operations.observe(series, self.outcome, took, exemplar);
        }
    }

    /// Why a span goes out that is not sampled, if it does.
    fn reason(&self, span: &Span, took: Duration) -> Option<&'static str> {
        let keep = self.keep.filter(|_| !span.flags.is_sampled())?;
        keep.reason(self.outcome.status == Status::Error, took)
    }
}
