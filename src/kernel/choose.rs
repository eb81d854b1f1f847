//! Which mode a machine can carry out.

use std::time::Duration;
use std::vec::Vec;

use super::tool::Tool;
use super::{Iptables, Ipvs, KernelError, NetnsName, Nft};
use crate::ipvs::Config;
use crate::plan::Mode;

/// The mode that a machine can carry out, and why not another.
#[derive(Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The first one that will do.
    pub mode: Mode,
    /// Those before it, and what each lacks.
    pub refused: Vec<(Mode, KernelError)>,
}

/// Chooses the first of some modes that the tools and the kernel of this machine can carry out, in a network namespace. What only a
/// run would show is not seen.
///
/// ```no_run
/// use svcplane::kernel;
/// use svcplane::plan::Mode;
///
/// // As kube-proxy's ipvs mode did: another one rather than none.
/// let choice = kernel::choose(&[Mode::Ipvs, Mode::Nftables, Mode::Iptables], None)?;
/// for (mode, error) in &choice.refused {
///     println!("not {mode}: {error}");
/// }
/// # Ok::<(), svcplane::kernel::KernelError>(())
/// ```
///
/// [`Mode::Userspace`] needs nothing of the kernel.
///
/// # Errors
///
/// Why the last one will not do, if none will; [`KernelError::NoMode`] if there is none.
pub fn choose(wanted: &[Mode], netns: Option<&NetnsName>) -> Result<Choice, KernelError> {
    let mut refused = Vec::new();
    for &mode in wanted {
        match probe(mode, netns) {
            Ok(()) => return Ok(Choice { mode, refused }),
            Err(error) => refused.push((mode, error)),
        }
    }
    Err(refused.pop().map_or(KernelError::NoMode, |(_, error)| error))
}

fn probe(mode: Mode, netns: Option<&NetnsName>) -> Result<(), KernelError> {
    match mode {
        Mode::Userspace => Ok(()),
        Mode::Nftables => {
            let mut nft = Nft::new();
            nft.netns = netns.cloned();
            nft.supported().map(|_| ())
        }
        Mode::Iptables => Iptables::detect(netns)?.supported().map(|_| ()),
        Mode::Ipvs => {
            let mut ipvs = Ipvs::open_at(netns, Duration::from_secs(10))?;
            let scheduler = Config::default().scheduler;
            if !ipvs.has_scheduler(scheduler)? {
                return Err(KernelError::NoScheduler(scheduler));
            }
            Tool { path: "ipset".as_ref(), netns }.succeed(&["version"], "", |_| ())?;
            Iptables::detect(netns)?.supported().map(|_| ())
        }
    }
}
