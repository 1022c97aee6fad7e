//! The life of a request, told once from top to bottom.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

use super::begin::{self, Begun, Met};
use super::body::{RequestBody, ResponseBody};
use super::connection::{Connection, InFlight};
use super::error::{Abort, Breakage, ProxyError};
use super::exchange::{Exchange, Held};
use super::expect::Gate;
use super::headers::{Media, Survey};
use super::hop::{self, Asked};
use super::read;
use super::settings::Target;
use super::switch;
use super::upstream::{Guard, Upstream, unless};
use crate::net::dial::DialError;
use crate::net::spelling::Spelled;

/// The ids of a request's context, and its flags.
pub type Ids = (TraceId, SpanId, TraceFlags);

/// Takes a request from the downstream to the upstream and the response back.
///
/// Only the forwarding may fail the request; it then gets a status and a line
/// that says who failed. The error stands for a connection that has to break
/// off as it would have without us.
pub async fn handle(
    request: Request<Incoming>,
    connection: Arc<Connection>,
) -> Result<Response<ResponseBody>, Abort> {
    let in_flight = connection.enter();
    let started = (Instant::now(), SystemTime::now());
    let spelled = connection.watched.signals.take_spelled();

    let survey = Survey::of(request.headers());
    // hyper counts the fields of HTTP/1 alone.
    let most = connection.worker.limits().max_headers;
    if request.headers().len() > most {
        return Ok(refuse(&connection, &ProxyError::TooManyHeaders(most), None));
    }
    if let Err(error) = hop::check(&request, survey) {
        return Ok(refuse(&connection, &error, None));
    }
    let (mut head, body) = request.into_parts();
    let target = match connection.route.target(&mut head, &connection.worker.settings.originate) {
        Ok(target) => target,
        Err(error) => return Ok(refuse(&connection, &error, None)),
    };
    if connection.route.tunnels() && head.method == http::Method::CONNECT {
        return Ok(switch::connect(head, body, target, connection, started).await);
    }
    let asked = hop::leave_hop(&mut head.headers, survey, head.version, &head.method);
    let read = read::message(&head, body, survey, asked.expect, &connection).await;
    let upstream = connection.upstreams.get(&target, head.version, &connection.worker).await;
    let upstream = refuse_loop(upstream, &connection, &target);

    let outbound = connection.route.is_outbound();
    // Of TLS the server has proved its name itself.
    let named = if target.secure { None } else { connection.route.named(&head) };
    let met = Met {
        outbound,
        downstream: &connection.downstream,
        target: named.as_ref().unwrap_or(&target.server),
        claimed: named.is_some(),
        secure: if outbound { target.secure } else { connection.secure },
        survey,
        upstream: upstream.as_ref().ok().map(|(upstream, _)| upstream.peer),
        local: upstream.as_ref().ok().and_then(|(upstream, _)| upstream.local),
        started: started.0,
        started_at: started.1,
    };
    let Begun { body, exchange } = begin::begin(&connection.worker, met, &mut head, read);
    let (upstream, guard) = match upstream {
        Ok(reached) => reached,
        Err(error) => return give_up(&connection, exchange, error),
    };
    let mut request = Some(Request::from_parts(head, body));
    let guard = Some(guard);
    Forward { connection, target, asked, exchange, in_flight, upstream, guard, spelled }
        .run(&mut request)
        .await
}

fn refuse_loop(
    upstream: Result<(Arc<Upstream>, Guard), DialError>,
    connection: &Connection,
    target: &Target,
) -> Result<(Arc<Upstream>, Guard), ProxyError> {
    let (upstream, guard) = upstream.map_err(|e| ProxyError::Dial(target.to_string(), e))?;
    if connection.worker.settings.is_ours(upstream.peer, upstream.local) {
        return Err(ProxyError::Loop(target.to_string()));
    }
    Ok((upstream, guard))
}

/// The second half: the request is ready and has an upstream to go to. It is
/// handed on by reference, because it is large.
struct Forward {
    connection: Arc<Connection>,
    target: Arc<Target>,
    asked: Asked,
    exchange: Option<Held>,
    in_flight: InFlight,
    upstream: Arc<Upstream>,
    guard: Option<Guard>,
    /// How the field names of the request are spelled, then those of the response.
    spelled: Spelled,
}

impl Forward {
    async fn run(
        mut self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<ResponseBody>, Abort> {
        let downstream = request.as_mut().and_then(|request| self.prepare(request));
        let mut response = None;
        match self.send(request, &mut response).await {
            Ok(()) => {}
            Err(Refused::Say(error)) => return give_up(&self.connection, self.exchange, error),
            Err(Refused::Abort(error)) => return Err(abort(&self.connection, self.exchange, error)),
        }
        let Some(mut response) = response else {
            let error = ProxyError::Broken(self.target.to_string(), Breakage::Closed);
            return Ok(self.fail(&error));
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !self.asked.upgrade {
            let error = ProxyError::Broken(self.target.to_string(), Breakage::Garbage);
            return Ok(self.fail(&error));
        }
        let tunnel = self.asked.connect && response.status().is_success();
        let survey = Survey::of(response.headers());
        hop::leave_hop_of_response(response.headers_mut(), survey, tunnel);
        if let Some(downstream) = downstream
            && switch::switches(&response, self.asked)
        {
            if let Some(mut exchange) = self.exchange.take() {
                exchange.with(Exchange::switched);
            }
            let upgraded = hyper::upgrade::on(&mut response);
            switch::join(downstream, upgraded, Arc::clone(&self.upstream), Arc::clone(&self.connection));
        }
        Ok(self.observe(response, survey))
    }

    /// Gives the request what it asks of its connection: what becomes of that
    /// after an upgrade, and the gate before its body.
    fn prepare(&self, request: &mut Request<RequestBody>) -> Option<OnUpgrade> {
        let downstream = self.asked.upgrade.then(|| hyper::upgrade::on(&mut *request));
        if self.asked.expect && request.version() == Version::HTTP_11 {
            let gate = Gate::on(request, self.connection.worker.limits().expect_timeout);
            request.body_mut().wait_at(gate);
        }
        downstream
    }

    /// Sends the request; once more on a new connection where the old one
    /// turns out to be closed and no byte of the request has left, or where
    /// the upstream says that it has not handled it.
    async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        response: &mut Option<Response<Incoming>>,
    ) -> Result<(), Refused> {
        let connection = Arc::clone(&self.connection);
        let limits = connection.worker.limits();
        for attempt in 0..2 {
            let sent = {
                let mut deadline = self.connection.deadline(limits.response_timeout);
                let sending = pin!(self.upstream.send(request, response, &mut self.spelled));
                unless(sending, |cx| deadline.passed(cx)).await
            };
            let failed = match sent {
                Some(Ok(())) => return Ok(()),
                None => {
                    return Err(Refused::Say(ProxyError::Silent(
                        self.target.to_string(),
                        limits.response_timeout,
                    )));
                }
                Some(Err(failed)) => failed,
            };
            let error = || match Breakage::of(&failed.error) {
                Breakage::Request => ProxyError::BadRequest("its body broke off"),
                breakage => ProxyError::Broken(self.target.to_string(), breakage),
            };
            let version = request.as_ref().map(Request::version);
            if failed.unsent
                && attempt == 0
                && let Some(version) = version
            {
                self.guard = None;
                let upstreams = &connection.upstreams;
                upstreams.forget(&self.upstream);
                let reached = upstreams.get(&self.target, version, &connection.worker).await;
                let (upstream, guard) =
                    reached.map_err(|e| Refused::Say(ProxyError::Dial(self.target.to_string(), e)))?;
                (self.upstream, self.guard) = (upstream, Some(guard));
            } else if failed.reused && closed(&failed.error) {
                // A client on a connection of its own would have seen it close
                // and would know that it may have been too slow.
                return Err(Refused::Abort(error()));
            } else {
                return Err(Refused::Say(error()));
            }
        }
        Err(Refused::Say(ProxyError::Broken(self.target.to_string(), Breakage::Closed)))
    }

    fn observe(mut self, response: Response<Incoming>, survey: Survey) -> Response<ResponseBody> {
        self.connection.watched.signals.spell(std::mem::take(&mut self.spelled));
        let (mut head, body) = response.into_parts();
        let media = survey.media();
        if let Some(exchange) = &mut self.exchange {
            let from = (&self.connection, &self.target, self.upstream.peer.ip());
            exchange.with(|exchange| exchange.response_head(&mut head, survey, media, from));
        }
        if !body.is_end_stream() && media == Media::Events {
            self.in_flight.streams();
        }
        let length = if body.is_end_stream() { hop::only_length(&head) } else { None };
        let held = (self.guard, self.in_flight);
        let body = ResponseBody::upstream(body, self.upstream, self.exchange, held).saying(length);
        Response::from_parts(head, body)
    }

    fn fail(self, error: &ProxyError) -> Response<ResponseBody> {
        fail(&self.connection, self.exchange, error)
    }
}

/// Ends an exchange that got no response. A client that did not mean to talk
/// to a proxy sees what it would have seen without one.
fn give_up(
    connection: &Connection,
    exchange: Option<Held>,
    error: ProxyError,
) -> Result<Response<ResponseBody>, Abort> {
    if connection.route.is_redirected() && error.ends_connection() {
        return Err(abort(connection, exchange, error));
    }
    Ok(fail(connection, exchange, &error))
}

/// Ends an exchange with its connection, as the upstream's ended.
fn abort(connection: &Connection, exchange: Option<Held>, error: ProxyError) -> Abort {
    if let Some(mut exchange) = exchange {
        exchange.with(|exchange| exchange.failed(&error));
    }
    if connection.route.is_redirected() && !matches!(error, ProxyError::Broken(_, Breakage::Closed)) {
        connection.torn();
    }
    Abort(error)
}

/// Ends an exchange with the answer of the proxy itself.
fn fail(connection: &Connection, exchange: Option<Held>, error: &ProxyError) -> Response<ResponseBody> {
    let context = exchange.and_then(|mut exchange| exchange.with(|exchange| exchange.failed(error)));
    refuse(connection, error, context)
}

enum Refused {
    /// The proxy answers with a status and a line.
    Say(ProxyError),
    /// The connection breaks off.
    Abort(ProxyError),
}

fn closed(error: &hyper::Error) -> bool {
    matches!(Breakage::of(error), Breakage::Closed | Breakage::Reset)
}

/// The answer of the proxy itself to a request of this context, counted.
pub fn refuse(connection: &Connection, error: &ProxyError, context: Option<Ids>) -> Response<ResponseBody> {
    connection.worker.metrics.proxy.failed(error.error_type());
    if error.status() != StatusCode::BAD_REQUEST {
        let (trace_id, span_id) = (context.map(|ids| ids.0), context.map(|ids| ids.1));
        tracing::debug!(
            %error,
            trace_id = trace_id.map(display),
            span_id = span_id.map(display),
            trace_flags = context.map(|ids| display(format!("{:02x}", ids.2.to_u8()))),
            "request failed"
        );
    }
    error.response().map(ResponseBody::local)
}
