//! `meshtrace check`: looks at a part of the system and says in words what it
//! found and what to do about it.

pub mod agent;
pub mod collector;
