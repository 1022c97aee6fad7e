//! The head decision: whether a trace is recorded, made once where it enters
//! the mesh and followed from there on.
//!
//! Shares are consistent probability sampling as OpenTelemetry defines it:
//! the trace id (or the explicit `rv`) is a number `R`, the share is a
//! threshold `T`, and the trace is kept when `R >= T`. Sidecars that see the
//! same trace id therefore agree without talking to each other.

use opentelemetry::trace::TraceId;

use super::context::TraceContext;
use super::sampler_config::{Root, SamplerConfig};
use crate::w3c::ot::{OtelState, RANGE};

/// Decides which traces are recorded. Pure: the same input, the same answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    parent_based: bool,
    /// Spans with `R` below this are dropped; `RANGE` drops all of them.
    threshold: u64,
}

/// What was decided for one span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the span is recorded and exported.
    pub sampled: bool,
    /// What becomes of the `ot` member of `tracestate`.
    pub ot: Ot,
}

/// The change to the `ot` member that a decision asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ot {
    /// It stays as the parent sent it, absent if it was absent.
    Keep,
    /// It becomes this text.
    Set(String),
    /// It goes: nothing that it could say is known to be true.
    Remove,
}

impl Sampler {
    /// A sampler for what the user asked for. Ratios outside 0 to 1 are
    /// clamped.
    pub fn new(config: &SamplerConfig) -> Self {
        let threshold = match config.root {
            Root::AlwaysOn => 0,
            Root::AlwaysOff => RANGE,
            Root::Ratio(ratio) => threshold_of(ratio),
        };
        Sampler { parent_based: config.parent_based, threshold }
    }

    /// Decides for a span of this trace under this parent, if it has one.
    pub fn decide(&self, parent: Option<&TraceContext>, trace_id: TraceId) -> Decision {
        match parent {
            Some(parent) if self.parent_based => follow(parent),
            parent => self.decide_by_share(parent, trace_id),
        }
    }

    /// Decides for a new trace that belongs beside others, of which one made it
    /// and nobody knows which: `any_sampled` says whether one of those is recorded.
    pub fn decide_beside(&self, any_sampled: bool, trace_id: TraceId) -> Decision {
        match self.parent_based {
            // Its share is unknown, so nothing is said of it.
            true => Decision { sampled: any_sampled, ot: Ot::Keep },
            false => self.decide_by_share(None, trace_id),
        }
    }

    fn decide_by_share(&self, parent: Option<&TraceContext>, trace_id: TraceId) -> Decision {
        let state = parent.and_then(TraceContext::ot);
        let random = state.clone().unwrap_or_default().randomness(trace_id);
        let sampled = random >= self.threshold;
        let ot = match (sampled, state) {
            (true, None) if self.threshold == 0 => Ot::Set("th:0".to_owned()),
            (true, state) => {
                let mut state = state.unwrap_or_default();
                state.threshold = Some(self.threshold);
                Ot::Set(state.encode())
            }
            (false, Some(state)) => without_threshold(state),
            (false, None) => Ot::Keep,
        };
        Decision { sampled, ot }
    }
}

/// Follows the parent. Its threshold is carried on only where it can be true:
/// a flag that contradicts `R >= T` means that somebody decided otherwise.
fn follow(parent: &TraceContext) -> Decision {
    let sampled = parent.parent.is_sampled();
    let ot = match parent.ot() {
        Some(state) if state.threshold.is_some() => {
            let random = state.randomness(parent.parent.trace_id);
            if state.threshold.is_some_and(|t| (random >= t) == sampled) {
                Ot::Keep
            } else {
                without_threshold(state)
            }
        }
        _ => Ot::Keep,
    };
    Decision { sampled, ot }
}

fn without_threshold(mut state: OtelState) -> Ot {
    if state.threshold.take().is_none() {
        return Ot::Keep;
    }
    let text = state.encode();
    if text.is_empty() { Ot::Remove } else { Ot::Set(text) }
}

/// `T = round((1 - p) * 2^56)`.
fn threshold_of(ratio: f64) -> u64 {
    let ratio = if ratio.is_nan() { 1.0 } else { ratio.clamp(0.0, 1.0) };
    ((1.0 - ratio) * RANGE as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::ids::Ids;
    use crate::w3c::traceparent::Traceparent;
    use crate::w3c::tracestate::Tracestate;

    fn sampler(root: Root, parent_based: bool) -> Sampler {
        Sampler::new(&SamplerConfig { root, parent_based })
    }

    fn parent(traceparent: &str, tracestate: &str) -> TraceContext {
        TraceContext {
            parent: Traceparent::parse(traceparent.as_bytes()).unwrap(),
            tracestate: Tracestate::parse([tracestate.as_bytes()]),
        }
    }

    const KEPT: &str = "00-0af7651916cd43dd84ffffffffffff9c-b7ad6b7169203331-01";
    const LOST: &str = "00-0af7651916cd43dd8400000000000001-b7ad6b7169203331-00";

    #[test]
    fn thresholds_are_those_of_the_specification() {
        assert_eq!(threshold_of(1.0), 0);
        assert_eq!(threshold_of(0.25), 0xc0_0000_0000_0000);
        assert_eq!(threshold_of(0.0), RANGE);
        let one_percent = sampler(Root::Ratio(0.01), true).decide(None, TraceId::from_bytes([0xff; 16]));
        match one_percent.ot {
            Ot::Set(text) => assert!(text.starts_with("th:fd70a3d70a3d7"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_share_is_kept_within_its_error() {
        let ids = Ids::seeded(7, 8);
        let sampler = sampler(Root::Ratio(0.1), true);
        let kept = (0..20_000).filter(|_| sampler.decide(None, ids.trace_id()).sampled).count();
        // Three standard deviations of a binomial around 2,000.
        assert!((1_873..2_127).contains(&kept), "{kept}");
    }

    #[test]
    fn roots() {
        let id = TraceId::from_bytes([1; 16]);
        let on = sampler(Root::AlwaysOn, true).decide(None, id);
        assert_eq!(on, Decision { sampled: true, ot: Ot::Set("th:0".into()) });
        let off = sampler(Root::AlwaysOff, true).decide(None, id);
        assert_eq!(off, Decision { sampled: false, ot: Ot::Keep });
    }

    #[test]
    fn a_parent_is_followed_and_its_threshold_carried_where_it_is_true() {
        let cases = [
            (KEPT, "ot=th:8,a=1", true, Ot::Keep),
            (KEPT, "a=1", true, Ot::Keep),
            (LOST, "ot=th:8", false, Ot::Keep),
            // Sampled by somebody although R < T: the share is unknown.
            (&LOST.replace("-00", "-01"), "ot=th:8", true, Ot::Remove),
            (&LOST.replace("-00", "-01"), "ot=th:8;x:y", true, Ot::Set("x:y".into())),
            (KEPT, "ot=th:8;rv:00000000000001", true, Ot::Set("rv:00000000000001".into())),
        ];
        for (traceparent, tracestate, sampled, ot) in cases {
            let traceparent = if traceparent.starts_with("00-") { traceparent } else { KEPT };
            let context = parent(traceparent, tracestate);
            let decision = sampler(Root::AlwaysOff, true).decide(Some(&context), context.parent.trace_id);
            assert_eq!(decision, Decision { sampled, ot }, "{traceparent} {tracestate}");
        }
    }

    #[test]
    fn beside_others_it_is_decided_as_for_them() {
        let id = TraceId::from_bytes([1; 16]);
        for any_sampled in [true, false] {
            let decision = sampler(Root::AlwaysOff, true).decide_beside(any_sampled, id);
            assert_eq!(decision, Decision { sampled: any_sampled, ot: Ot::Keep });
            assert!(sampler(Root::AlwaysOn, false).decide_beside(any_sampled, id).sampled);
        }
    }

    #[test]
    fn without_parent_based_the_share_decides_and_rv_wins_over_the_id() {
        let context = parent(LOST, "ot=rv:ffffffffffffff;k:v");
        let decision = sampler(Root::Ratio(0.5), false).decide(Some(&context), context.parent.trace_id);
        assert!(decision.sampled);
        match decision.ot {
            Ot::Set(text) => {
                assert!(text.contains("th:8") && text.contains("rv:ffffffffffffff"), "{text}");
                assert!(text.contains("k:v"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        let context = parent(KEPT, "ot=th:0");
        let decision = sampler(Root::AlwaysOff, false).decide(Some(&context), context.parent.trace_id);
        assert_eq!(decision, Decision { sampled: false, ot: Ot::Remove });
    }
}
