//! The head decision: whether a trace is recorded, made once where it enters
//! the mesh and followed from there on.
//!
//! Shares are consistent probability sampling as OpenTelemetry defines it:
//! the trace id (or the explicit `rv`) is a number `R`, the share is a
//! threshold `T`, and the trace is kept when `R >= T`. Sidecars that see the
//! same trace id therefore agree without talking to each other. A rate is the
//! decision of one sidecar, which the others follow; nobody can know which
//! share it stands for, so `ot=th` is not said then.

use std::borrow::Cow;
use std::time::Instant;

use opentelemetry::trace::TraceId;

use super::context::TraceContext;
use super::rate::Bucket;
use super::rules::{Facts, RuleConfig};
use super::sampler_config::{Root, SamplingConfig};
use crate::w3c::ot::{OtelState, RANGE};

/// Decides which traces are recorded. The same input gives the same answer,
/// but for what rates count.
#[derive(Debug)]
pub struct Sampler {
    /// Those that are for this agent, in the order in which they are asked.
    rules: Vec<Rule>,
    /// Whether some rule decides although there is a parent.
    any_root: bool,
    /// Whether what no rule matched follows its parent.
    parent_based: bool,
    /// The threshold of what no rule matched.
    threshold: u64,
    /// The most traces a second that are begun here, over all rules.
    cap: Option<Bucket>,
}

#[derive(Debug)]
struct Rule {
    config: RuleConfig,
    /// Spans with `R` below this are dropped; `RANGE` drops all of them.
    threshold: u64,
    rate: Option<Bucket>,
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
    Set(Cow<'static, str>),
    /// It goes: nothing that it could say is known to be true.
    Remove,
}

impl Sampler {
    /// A sampler for what the user asked for, in the sidecar of `agent`.
    /// Shares outside 0 to 1 are clamped. Rates count from `now`.
    pub fn new(config: &SamplingConfig, agent: &str, now: Instant) -> Self {
        let rules: Vec<Rule> =
            config.rules.iter().filter(|rule| rule.is_for(agent)).map(|rule| Rule::new(rule, now)).collect();
        let threshold = match config.fallback.root {
            Root::AlwaysOn => 0,
            Root::AlwaysOff => RANGE,
            Root::Ratio(ratio) => threshold_of(ratio),
        };
        Sampler {
            any_root: rules.iter().any(|rule| rule.config.root),
            rules,
            parent_based: config.fallback.parent_based,
            threshold,
            cap: config.max_per_second.map(|rate| Bucket::new(rate, now)),
        }
    }

    /// Decides for a span of this trace under this parent, if it has one.
    pub fn decide(
        &self,
        parent: Option<&TraceContext>,
        trace_id: TraceId,
        facts: &dyn Facts,
        now: Instant,
    ) -> Decision {
        if let Some(parent) = parent
            && self.parent_based
            && !self.any_root
        {
            return follow(parent);
        }
        let (rule, asks_parent) = self.rule(facts);
        match parent {
            Some(parent) if asks_parent => follow(parent),
            parent => self.decide_here(parent, trace_id, rule, now),
        }
    }

    /// Decides for a new trace that belongs beside others, of which one made it
    /// and nobody knows which: `any_sampled` says whether one of those is recorded.
    pub fn decide_beside(
        &self,
        any_sampled: bool,
        trace_id: TraceId,
        facts: &dyn Facts,
        now: Instant,
    ) -> Decision {
        match self.rule(facts) {
            // Its share is unknown, so nothing is said of it.
            (_, true) => Decision { sampled: any_sampled, ot: Ot::Keep },
            (rule, false) => self.decide_here(None, trace_id, rule, now),
        }
    }

    /// The rule for a request, and whether a parent overrules it.
    fn rule(&self, facts: &dyn Facts) -> (Option<&Rule>, bool) {
        let rule = self.rules.iter().find(|rule| rule.config.matches(facts));
        (rule, rule.map_or(self.parent_based, |rule| !rule.config.root))
    }

    /// The decision of this sidecar: the share, then the rate of the rule,
    /// then the rate over all.
    fn decide_here(
        &self,
        parent: Option<&TraceContext>,
        trace_id: TraceId,
        rule: Option<&Rule>,
        now: Instant,
    ) -> Decision {
        let threshold = rule.map_or(self.threshold, |rule| rule.threshold);
        let rate = rule.and_then(|rule| rule.rate.as_ref());
        let state = parent.and_then(TraceContext::ot);
        let random = match &state {
            Some(state) => state.randomness(trace_id),
            None => OtelState::default().randomness(trace_id),
        };
        let sampled = random >= threshold
            && rate.is_none_or(|rate| rate.take(now))
            && self.cap.as_ref().is_none_or(|cap| cap.take(now));
        let share_is_true = rate.is_none() && self.cap.as_ref().is_none_or(|cap| !cap.is_cutting(now));
        let ot = match (sampled && share_is_true, state) {
            (true, None) if threshold == 0 => Ot::Set(Cow::Borrowed("th:0")),
            (true, state) => {
                let mut state = state.unwrap_or_default();
                state.threshold = Some(threshold);
                Ot::Set(state.encode().into())
            }
            (false, Some(state)) => without_threshold(state),
            (false, None) => Ot::Keep,
        };
        Decision { sampled, ot }
    }
}

impl Rule {
    fn new(config: &RuleConfig, now: Instant) -> Self {
        Rule {
            threshold: config.share.map_or(0, threshold_of),
            rate: config.per_second.map(|rate| Bucket::new(rate, now)),
            config: config.clone(),
        }
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
    if text.is_empty() { Ot::Remove } else { Ot::Set(text.into()) }
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
    use crate::trace::rules::Field;
    use crate::trace::rules::tests::{List, condition};
    use crate::trace::sampler_config::SamplerConfig;
    use crate::w3c::traceparent::Traceparent;
    use crate::w3c::tracestate::Tracestate;

    fn sampler(root: Root, parent_based: bool) -> Sampler {
        let config = SamplingConfig::from(SamplerConfig { root, parent_based });
        Sampler::new(&config, "agent", Instant::now())
    }

    impl Sampler {
        /// Decides about a request of which nothing is known.
        fn decides(&self, parent: Option<&TraceContext>, trace_id: TraceId) -> Decision {
            self.decide(parent, trace_id, &List(&[]), Instant::now())
        }
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
        let one_percent = sampler(Root::Ratio(0.01), true).decides(None, TraceId::from_bytes([0xff; 16]));
        match one_percent.ot {
            Ot::Set(text) => assert!(text.starts_with("th:fd70a3d70a3d7"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_share_is_kept_within_its_error() {
        let ids = Ids::seeded(7, 8);
        let sampler = sampler(Root::Ratio(0.1), true);
        let kept = (0..20_000).filter(|_| sampler.decides(None, ids.trace_id()).sampled).count();
        // Three standard deviations of a binomial around 2,000.
        assert!((1_873..2_127).contains(&kept), "{kept}");
    }

    #[test]
    fn roots() {
        let id = TraceId::from_bytes([1; 16]);
        let on = sampler(Root::AlwaysOn, true).decides(None, id);
        assert_eq!(on, Decision { sampled: true, ot: Ot::Set("th:0".into()) });
        let off = sampler(Root::AlwaysOff, true).decides(None, id);
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
            let decision = sampler(Root::AlwaysOff, true).decides(Some(&context), context.parent.trace_id);
            assert_eq!(decision, Decision { sampled, ot }, "{traceparent} {tracestate}");
        }
    }

    #[test]
    fn beside_others_it_is_decided_as_for_them() {
        let id = TraceId::from_bytes([1; 16]);
        for any_sampled in [true, false] {
            let decision =
                sampler(Root::AlwaysOff, true).decide_beside(any_sampled, id, &List(&[]), Instant::now());
            assert_eq!(decision, Decision { sampled: any_sampled, ot: Ot::Keep });
            assert!(
                sampler(Root::AlwaysOn, false)
                    .decide_beside(any_sampled, id, &List(&[]), Instant::now())
                    .sampled
            );
        }
    }

    #[test]
    fn without_parent_based_the_share_decides_and_rv_wins_over_the_id() {
        let context = parent(LOST, "ot=rv:ffffffffffffff;k:v");
        let decision = sampler(Root::Ratio(0.5), false).decides(Some(&context), context.parent.trace_id);
        assert!(decision.sampled);
        match decision.ot {
            Ot::Set(text) => {
                assert!(text.contains("th:8") && text.contains("rv:ffffffffffffff"), "{text}");
                assert!(text.contains("k:v"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        let context = parent(KEPT, "ot=th:0");
        let decision = sampler(Root::AlwaysOff, false).decides(Some(&context), context.parent.trace_id);
        assert_eq!(decision, Decision { sampled: false, ot: Ot::Remove });
    }

    /// A sampler of rules; what none of them matches is not recorded.
    fn ruled(rules: Vec<RuleConfig>, max_per_second: Option<f64>, now: Instant) -> Sampler {
        let fallback = SamplerConfig { root: Root::AlwaysOff, parent_based: true };
        Sampler::new(&SamplingConfig { fallback, rules, max_per_second, keep: None }, "agent", now)
    }

    fn tool(name: &str, share: f64) -> RuleConfig {
        RuleConfig {
            conditions: vec![condition(Field::Tool, &[name])],
            share: Some(share),
            ..RuleConfig::default()
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let now = Instant::now();
        let elsewhere =
            RuleConfig { agent: vec![crate::trace::glob::Glob::new("other")], ..RuleConfig::default() };
        let sampler = ruled(vec![elsewhere, tool("delete_*", 1.0), tool("*", 0.0)], None, now);
        let decide = |tool| {
            let facts = [(Field::Tool, tool)];
            sampler.decide(None, TraceId::from_bytes([9; 16]), &List(&facts), now)
        };
        assert_eq!(decide("delete_user"), Decision { sampled: true, ot: Ot::Set("th:0".into()) });
        assert_eq!(decide("add"), Decision { sampled: false, ot: Ot::Keep });
        assert!(!sampler.decide(None, TraceId::from_bytes([9; 16]), &List(&[]), now).sampled, "no tool");
    }

    #[test]
    fn the_share_of_a_rule_is_kept_within_its_error_and_alike_everywhere() {
        let (now, ids) = (Instant::now(), Ids::seeded(21, 22));
        for (share, low, high) in [(0.5, 9_788, 10_212), (0.1, 1_873, 2_127), (0.01, 157, 243)] {
            let one = ruled(vec![tool("*", share)], None, now);
            // Another sidecar, whose rule is another one with the same share.
            let other = ruled(vec![RuleConfig { share: Some(share), ..RuleConfig::default() }], None, now);
            let mut kept = 0;
            for _ in 0..20_000 {
                let id = ids.trace_id();
                let decision = one.decide(None, id, &List(&[(Field::Tool, "add")]), now);
                assert_eq!(decision, other.decide(None, id, &List(&[]), now));
                kept += usize::from(decision.sampled);
            }
            // Three standard deviations of a binomial.
            assert!((low..=high).contains(&kept), "{share}: {kept}");
        }
    }

    #[test]
    fn a_parent_is_respected_unless_the_rule_is_for_roots_of_its_own() {
        let now = Instant::now();
        let plain = ruled(vec![tool("*", 0.0)], None, now);
        let root = ruled(vec![RuleConfig { root: true, ..tool("*", 0.0) }], None, now);
        let facts = [(Field::Tool, "add")];
        let (kept, lost) = (parent(KEPT, "ot=th:8"), parent(LOST, ""));
        let decide = |sampler: &Sampler, parent: &TraceContext, facts: &[(Field, &str)]| {
            sampler.decide(Some(parent), parent.parent.trace_id, &List(facts), now)
        };
        assert_eq!(decide(&plain, &kept, &facts), Decision { sampled: true, ot: Ot::Keep });
        assert_eq!(decide(&root, &kept, &facts), Decision { sampled: false, ot: Ot::Remove });
        assert!(decide(&root, &kept, &[]).sampled, "the rule does not match");
        let all = ruled(vec![RuleConfig { root: true, ..tool("*", 1.0) }], None, now);
        assert_eq!(decide(&all, &lost, &facts), Decision { sampled: true, ot: Ot::Set("th:0".into()) });
        assert!(!decide(&all, &lost, &[]).sampled);
    }

    #[test]
    fn a_rule_speaks_to_parents_although_the_fallback_does_not() {
        let now = Instant::now();
        let fallback = SamplerConfig { root: Root::AlwaysOff, parent_based: false };
        let config = SamplingConfig { fallback, rules: vec![tool("add", 0.0)], ..SamplingConfig::default() };
        let sampler = Sampler::new(&config, "agent", now);
        let kept = parent(KEPT, "");
        let decide = |tool| {
            let facts = [(Field::Tool, tool)];
            sampler.decide(Some(&kept), kept.parent.trace_id, &List(&facts), now).sampled
        };
        assert!(decide("add"), "a rule that is not for roots of its own follows the parent");
        assert!(!decide("other"), "what no rule matches is the fallback's");
    }

    #[test]
    fn a_rate_is_kept_exactly_and_claims_no_share() {
        use std::time::Duration;
        let (start, ids) = (Instant::now(), Ids::seeded(5, 6));
        let rate = RuleConfig { per_second: Some(10.0), ..RuleConfig::default() };
        let sampler = ruled(vec![rate], None, start);
        // A thousand requests a second for three seconds.
        let mut kept = 0;
        for n in 0..3_000 {
            let now = start + Duration::from_millis(n);
            let decision = sampler.decide(None, ids.trace_id(), &List(&[]), now);
            assert_eq!(decision.ot, Ot::Keep, "nobody knows the share");
            kept += usize::from(decision.sampled);
        }
        assert_eq!(kept, 10 + 29, "a full bucket, and one each 100 ms");
        let parent = parent(LOST, "ot=th:8;a:b");
        let sampler = ruled(
            vec![RuleConfig { root: true, per_second: Some(1.0), ..RuleConfig::default() }],
            None,
            start,
        );
        let decision = sampler.decide(Some(&parent), parent.parent.trace_id, &List(&[]), start);
        assert_eq!(decision, Decision { sampled: true, ot: Ot::Set("a:b".into()) });
    }

    #[test]
    fn the_rate_over_all_cuts_what_rules_keep_and_takes_back_the_share_meanwhile() {
        use std::time::Duration;
        let (start, ids) = (Instant::now(), Ids::seeded(7, 6));
        let sampler = ruled(vec![tool("a", 1.0), tool("b", 1.0)], Some(5.0), start);
        let at = |millis: u64, tool| {
            let facts = [(Field::Tool, tool)];
            sampler.decide(None, ids.trace_id(), &List(&facts), start + Duration::from_millis(millis))
        };
        let first: Vec<_> = (0..5).map(|n| at(0, ["a", "b"][n % 2])).collect();
        assert!(first.iter().all(|d| *d == Decision { sampled: true, ot: Ot::Set("th:0".into()) }));
        assert_eq!(at(0, "a"), Decision { sampled: false, ot: Ot::Keep });
        assert_eq!(at(200, "b"), Decision { sampled: true, ot: Ot::Keep }, "sampled, but not of a share");
        assert_eq!(at(1_000, "b"), Decision { sampled: true, ot: Ot::Set("th:0".into()) });
        // What follows its parent is not begun here and so not cut.
        let kept = parent(KEPT, "");
        for _ in 0..100 {
            let decision = sampler.decide(Some(&kept), kept.parent.trace_id, &List(&[]), start);
            assert!(decision.sampled);
        }
    }
}
