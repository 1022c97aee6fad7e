//! Hands transactions to the kernel over netlink and reads its verdict.

use std::io::{self, Read};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::CaptureError;
use super::message::{self, Batch};
use super::reply;
use super::rules::Rules;

/// `AF_NETLINK` and `NETLINK_NETFILTER`.
const NETLINK: i32 = 16;
const NETFILTER: i32 = 12;

/// The kernel answers before the call returns; this is for one that does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most datagrams that are read for one transaction.
const MOST_DATAGRAMS: usize = 4096;

/// Puts the rules in place of whatever our table held before, in one
/// transaction: at no moment is half of it in force, and doing it again
/// changes nothing. Connections that are open stay as they are.
///
/// # Errors
/// What the kernel refuses or lacks. Nothing has changed then.
pub fn install(rules: &Rules) -> Result<(), CaptureError> {
    carry_out(&message::install(rules))
}

/// Takes our table away, if there is one. Connections that are redirected
/// stay so until they end.
///
/// # Errors
/// What the kernel refuses or lacks.
pub fn remove() -> Result<(), CaptureError> {
    carry_out(&message::remove())
}

fn carry_out(batch: &Batch) -> Result<(), CaptureError> {
    let socket = Socket::new(Domain::from(NETLINK), Type::RAW, Some(Protocol::from(NETFILTER)))
        .map_err(CaptureError::unreachable)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(CaptureError::Socket)?;
    let sent = socket.send(&batch.bytes).map_err(CaptureError::unreachable)?;
    if sent != batch.bytes.len() {
        return Err(CaptureError::Socket(io::ErrorKind::WriteZero.into()));
    }
    let mut buffer = vec![0; 32 * 1024];
    for _ in 0..MOST_DATAGRAMS {
        let length = match (&socket).read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CaptureError::Unanswered(error)),
        };
        let replies = reply::parse(&buffer[..length])?;
        if let Some(refused) = replies.iter().find(|reply| reply.error != 0) {
            let step = batch.steps.get(refused.number as usize);
            return Err(CaptureError::refused(step, io::Error::from_raw_os_error(refused.error)));
        }
        if replies.iter().any(|reply| reply.number == batch.last()) {
            return Ok(());
        }
    }
    Err(CaptureError::Unanswered(io::ErrorKind::TimedOut.into()))
}
