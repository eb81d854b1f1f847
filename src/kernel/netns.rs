//! Work in another network namespace than the calling thread's.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{KernelError, NetnsName};

/// Does something in a network namespace, or where the calling thread is. Sockets that are opened there stay in it.
///
/// A thread that has entered a namespace may not be able to go back, so that it is one of its own, and ends.
pub(super) fn inside<T: Send>(
    netns: Option<&NetnsName>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, KernelError> {
    let Some(netns) = netns else { return Ok(work()) };
    let done = thread::scope(|scope| -> io::Result<T> {
        let file = File::open(Path::new("/run/netns").join(netns.as_str()))?;
        let entered = thread::Builder::new().spawn_scoped(scope, move || -> io::Result<T> {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        })?;
        let panicked = |_| Err(io::Error::other("the thread that entered it panicked"));
        entered.join().unwrap_or_else(panicked)
    });
    done.map_err(|error| KernelError::Netns { netns: netns.clone(), error })
}
