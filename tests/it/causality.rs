//! The rules that find a parent, against simulated agents whose truth is
//! known: what says `exact` is never wrong, and the one inference hardly ever.

#[path = "../../benches/causality/sim.rs"]
#[allow(dead_code, reason = "the bench uses all of it")]
mod sim;

use meshtrace::trace::links::Method;
use sim::{Agent, Late, Outcome, Setup, run};

fn outcome(agent: Agent, concurrency: usize) -> Outcome {
    let mut all = Outcome::default();
    for seed in 1..=2 {
        all.add(&run(Setup { agent, concurrency, requests: 500, late: Late::Soon, seed }));
    }
    all
}

#[test]
fn what_says_exact_is_right() {
    let agents = [
        Agent::Silent,
        Agent::SilentInOneTrace,
        Agent::Meta,
        Agent::HttpHeader,
        Agent::McpHeader,
        Agent::StuckHeader,
    ];
    for agent in agents {
        for concurrency in [1, 2, 5, 20] {
            let outcome = outcome(agent, concurrency);
            let wrong: u64 = outcome.methods.iter().map(|score| score.exact_wrong).sum();
            let exact: u64 = outcome.methods.iter().map(|score| score.exact).sum();
            assert_eq!(wrong, 0, "{agent:?} {concurrency}: of {exact}");
            if agent == Agent::Meta {
                assert_eq!(exact, outcome.caused, "every call is proved");
            }
        }
    }
}

#[test]
fn the_inference_is_hardly_ever_wrong() {
    for agent in [Agent::Silent, Agent::StuckHeader] {
        for concurrency in [1, 2, 5] {
            let score = outcome(agent, concurrency).of(Method::InferredSingle);
            assert!(score.right * 1_000 >= score.attributed * 999, "{agent:?} {concurrency}: {score:?}");
        }
    }
    let alone = outcome(Agent::Silent, 1);
    let found = alone.of(Method::InferredSingle).right;
    assert!(found * 10 >= alone.caused * 8, "{found} of {}", alone.caused);
}

#[test]
fn a_link_by_value_and_a_common_trace_are_right() {
    for concurrency in [2, 20] {
        let by_value = outcome(Agent::Silent, concurrency).of(Method::InferredUniqueValue);
        assert!(by_value.attributed > 50 && by_value.right * 100 >= by_value.attributed * 95, "{by_value:?}");
        let common = outcome(Agent::SilentInOneTrace, concurrency).of(Method::TraceCommon);
        assert!(common.attributed > 50 && common.right * 100 >= common.attributed * 99, "{common:?}");
    }
}

/// Contexts that a pool mixes up are flagged where an argument tells.
#[test]
fn mixed_up_contexts_are_flagged_where_something_tells() {
    let outcome = outcome(Agent::MixedUpShim, 20);
    assert!(outcome.telling_mixups > 20);
    assert!(outcome.flagged * 100 >= outcome.telling_mixups * 90, "{outcome:?}");
}
