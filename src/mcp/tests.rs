//! Tests of the module as a whole: tables of what is read and written, and mutations of real
//! messages.

mod hostile;
mod reading;
mod splicing;
mod streams;
