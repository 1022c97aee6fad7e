//! What the webhook makes of a review, without the webhook.

#[path = "../../../src/admission/decide.rs"]
pub mod decide;
#[path = "../../../src/admission/diff.rs"]
pub mod diff;
#[path = "../../../src/admission/explicit.rs"]
mod explicit;
#[path = "../../../src/admission/fuzz.rs"]
pub mod fuzz;
#[path = "../../../src/admission/handing_on.rs"]
mod handing_on;
#[path = "../../../src/admission/options.rs"]
pub mod options;
#[path = "../../../src/admission/owner.rs"]
pub mod owner;
#[path = "../../../src/admission/patch.rs"]
pub mod patch;
#[path = "../../../src/admission/pod.rs"]
mod pod;
#[path = "../../../src/admission/ports.rs"]
pub mod ports;
#[path = "../../../src/admission/probes.rs"]
mod probes;
#[path = "../../../src/admission/quantity.rs"]
pub mod quantity;
#[path = "../../../src/admission/render.rs"]
mod render;
#[path = "../../../src/admission/review.rs"]
pub mod review;
#[path = "../../../src/admission/status.rs"]
pub mod status;
#[path = "../../../src/admission/strip.rs"]
mod strip;
#[path = "../../../src/admission/value.rs"]
mod value;

pub use decide::{REASONS, Refusal};
