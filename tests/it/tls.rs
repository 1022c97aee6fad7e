//! TLS on the data path: where it begins and where it ends.

mod origination;
mod termination;
