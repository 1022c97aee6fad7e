//! Giving up what installing rules took: from root to the user of the
//! sidecar, without any capability and without a way back.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::error::CaptureError;

/// Becomes this user and the group of the same number, in no other group,
/// with no capability left and none to be had by running a program.
///
/// # Errors
/// What could not be given up. The caller has to end then.
///
/// It changes the calling thread, so it is for before the first other one:
/// threads that are made later inherit everything.
pub fn become_user(uid: u32) -> Result<(), CaptureError> {
    let failed = |error: rustix::io::Errno| CaptureError::Identity { uid, error: io::Error::from(error) };
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    if rustix::process::geteuid() != user || rustix::process::getegid() != group {
        rustix::thread::set_thread_groups(&[]).map_err(failed)?;
        rustix::thread::set_thread_res_gid(group, group, group).map_err(failed)?;
        rustix::thread::set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    rustix::thread::set_no_new_privs(true).map_err(failed)?;
    rustix::thread::clear_ambient_capability_set().map_err(failed)?;
    let nothing = CapabilitySet::empty();
    let none = CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing };
    rustix::thread::set_capabilities(None, none).map_err(failed)?;
    verify(user)
}

/// Asks the kernel again, because serving with rights would be worse than not.
fn verify(user: Uid) -> Result<(), CaptureError> {
    let held = rustix::thread::capabilities(None)
        .map_err(|error| CaptureError::Identity { uid: user.as_raw(), error: error.into() })?;
    if !(held.effective | held.permitted | held.inheritable).is_empty() {
        return Err(CaptureError::Privileged("capabilities"));
    }
    if rustix::process::getuid() != user || rustix::process::geteuid() != user {
        return Err(CaptureError::Privileged("the user"));
    }
    Ok(())
}

/// The user that this process runs as.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}
