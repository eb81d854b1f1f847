//! The kernel parameters that IPVS needs.

use std::borrow::ToOwned;
use std::fs;
use std::io;
use std::string::String;
use std::vec::Vec;

use super::netns::inside;
use super::{KernelError, NetnsName};

/// The kernel parameters that IPVS needs for the Services of a cluster, as kube-proxy sets them.
///
/// | parameter | value | why |
/// | --- | --- | --- |
/// | `net.ipv4.vs.conntrack` | 1 | connections are tracked, so that they can be masqueraded |
/// | `net.ipv4.vs.conn_reuse_mode` | 0 | from Linux 4.1 on and before 5.9: with 1, a client that comes back from the same port waits a second |
/// | `net.ipv4.vs.expire_nodest_conn` | 1 | connections end with their real server |
/// | `net.ipv4.vs.expire_quiescent_template` | 1 | clients do not come back to a real server of weight 0 |
/// | `net.ipv4.ip_forward` | 1 | |
/// | `net.ipv4.conf.all.arp_ignore`, `arp_announce` | 1, 2 | only [if wanted](Self::strict_arp) |
///
/// Those of IPVS are there when [`Ipvs::open`](super::Ipvs::open) has succeeded.
///
/// ```no_run
/// use svcplane::kernel::Parameters;
///
/// for change in Parameters::default().set()? {
///     println!("{}: {} to {}", change.path, change.before, change.after);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Parameters {
    /// Whether this machine answers ARP only for addresses of the interface that it is asked at, which keeps those of the
    /// [dummy interface](super::DummyInterface) to itself: for load balancers that announce them otherwise. Defaults to false,
    /// which sets nothing.
    pub strict_arp: bool,
    /// The network namespace, which a thread of its own enters. Defaults to `None`, that of the calling thread.
    pub netns: Option<NetnsName>,
}

/// A kernel parameter that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterChange {
    /// Its path.
    pub path: &'static str,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: &'static str,
}

const VS: [(&str, &str); 4] = [
    ("/proc/sys/net/ipv4/vs/conntrack", "1"),
    ("/proc/sys/net/ipv4/vs/expire_nodest_conn", "1"),
    ("/proc/sys/net/ipv4/vs/expire_quiescent_template", "1"),
    ("/proc/sys/net/ipv4/ip_forward", "1"),
];
const REUSE: (&str, &str) = ("/proc/sys/net/ipv4/vs/conn_reuse_mode", "0");
const STRICT_ARP: [(&str, &str); 2] = [
    ("/proc/sys/net/ipv4/conf/all/arp_ignore", "1"),
    ("/proc/sys/net/ipv4/conf/all/arp_announce", "2"),
];

impl Parameters {
    /// Sets those that are not as wanted, and says which. In the order of the table.
    ///
    /// # Errors
    ///
    /// [`KernelError::Parameter`] for the first that the kernel does not have, or that this process may not set; those before it
    /// are set. [`KernelError::Netns`] if the namespace cannot be entered.
    pub fn set(&self) -> Result<Vec<ParameterChange>, KernelError> {
        let release = read("/proc/sys/kernel/osrelease")?;
        let wanted = self.wanted(&release);
        let set =
            || wanted.iter().filter_map(|&(path, value)| set(path, value).transpose()).collect();
        inside(self.netns.as_ref(), set)?
    }

    fn wanted(&self, release: &str) -> Vec<(&'static str, &'static str)> {
        let [conntrack, rest @ ..] = VS;
        let mut wanted = Vec::from([conntrack]);
        wanted.extend(reuse_harms(release).then_some(REUSE));
        wanted.extend(rest);
        if self.strict_arp {
            wanted.extend(STRICT_ARP);
        }
        wanted
    }
}

/// Whether a kernel has `conn_reuse_mode` and makes clients wait for it, by its release: `5.4.0-150-generic`.
fn reuse_harms(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    ((4, 1)..(5, 9)).contains(&(major, minor))
}

fn set(path: &'static str, after: &'static str) -> Result<Option<ParameterChange>, KernelError> {
    let before = read(path)?;
    if before == after {
        return Ok(None);
    }
    fs::write(path, after).map_err(|error| failed(path, error))?;
    Ok(Some(ParameterChange { path, before, after }))
}

fn read(path: &str) -> Result<String, KernelError> {
    let text = fs::read_to_string(path).map_err(|error| failed(path, error))?;
    Ok(text.trim().to_owned())
}

fn failed(path: &str, error: io::Error) -> KernelError {
    KernelError::Parameter { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::{Parameters, REUSE, reuse_harms};

    #[test]
    fn reuse_is_set_where_it_harms() {
        let harms = ["4.1.0", "4.19.0-25-amd64", "5.8.18", "5.4"];
        let does_not = ["4.0.9", "3.10.0-1160.el7", "5.9.0", "5.10.0-rc1", "6.1.176", "", "x", "5"];
        assert!(harms.iter().all(|release| reuse_harms(release)));
        assert!(!does_not.iter().any(|release| reuse_harms(release)));
        let strict = Parameters { strict_arp: true, netns: None };
        assert_eq!(strict.wanted("5.4.0")[1], REUSE);
        assert_eq!(strict.wanted("5.4.0").len(), 7);
        assert_eq!(Parameters::default().wanted("6.1.0").len(), 4);
    }
}
