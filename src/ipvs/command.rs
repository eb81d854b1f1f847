//! What the kernel can be told and asked.

use core::fmt;

use crate::ipvs::{Daemon, DaemonRole, RealKey, RealServer, Timeouts, VirtualKey, VirtualServer};
use crate::net::IpFamily;

/// What the kernel is told or asked.
///
/// Prints as the arguments that make `ipvsadm` do it; for the additions these are the lines of `ipvsadm -S -n`, which
/// `ipvsadm-restore` reads. `DIFFERENCE`: thresholds, marks from 2³¹ on and the third flag of `sh` and `mh` come through;
/// `ipvsadm -S` loses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Command {
    /// Which number the family IPVS has in generic netlink: [`Reply::Family`](crate::ipvs::Reply::Family). All other commands need
    /// it. It may differ after each start of the machine, or of the module. Prints as `-L`: all that `ipvsadm` does begins with it.
    ResolveFamily,
    /// Which version the kernel's IPVS has: [`Reply::Version`](crate::ipvs::Reply::Version). Prints as `-L`, too.
    ReadVersion,
    /// Adds a virtual server.
    AddVirtual(VirtualServer),
    /// Makes a virtual server as it is said; nothing of what it was stays, but its real servers and statistics. Another scheduler
    /// begins anew, the same one goes on.
    EditVirtual(VirtualServer),
    /// Deletes a virtual server with its real servers. Their connections go on until they time out, unless
    /// `net.ipv4.vs.expire_nodest_conn` is set.
    DeleteVirtual(VirtualKey),
    /// Asks for a virtual server: [`Reply::Virtual`](crate::ipvs::Reply::Virtual).
    FindVirtual(VirtualKey),
    /// Asks for all virtual servers, in no particular order.
    ListVirtual,
    /// Adds a real server to a virtual server, at the head of its list. One that was deleted lately has its connections back.
    AddReal(VirtualKey, RealServer),
    /// Makes a real server as it is said.
    EditReal(VirtualKey, RealServer),
    /// Deletes a real server.
    DeleteReal(VirtualKey, RealKey),
    /// Asks for the real servers of a virtual server, in the order of its list: [`Reply::Real`](crate::ipvs::Reply::Real). Of one
    /// that does not exist there are none.
    ListReal(VirtualKey),
    /// Deletes all virtual servers.
    Flush,
    /// Sets the statistics of a virtual server and its real servers to zero, or everyone's.
    Zero(Option<VirtualKey>),
    /// Asks for timeouts: [`Reply::Timeouts`](crate::ipvs::Reply::Timeouts).
    ReadTimeouts,
    /// Sets timeouts.
    SetTimeouts(Timeouts),
    /// Starts a daemon.
    StartDaemon(Daemon),
    /// Stops a daemon. Linux 6.1 does not answer if it was started so shortly before that it has not run yet, and stops it all the
    /// same.
    StopDaemon(DaemonRole),
    /// Asks for the daemons that run: [`Reply::Daemon`](crate::ipvs::Reply::Daemon).
    ListDaemons,
}

impl Command {
    /// Whether there may be any number of answers, which the kernel then ends with a message of their own.
    pub const fn is_list(&self) -> bool {
        matches!(self, Self::ListVirtual | Self::ListReal(_) | Self::ListDaemons)
    }

    /// The virtual server that it is about.
    pub const fn virtual_key(&self) -> Option<VirtualKey> {
        match self {
            Self::AddVirtual(server) | Self::EditVirtual(server) => Some(server.key()),
            Self::DeleteVirtual(key)
            | Self::FindVirtual(key)
            | Self::AddReal(key, _)
            | Self::EditReal(key, _)
            | Self::DeleteReal(key, _)
            | Self::ListReal(key) => Some(*key),
            Self::Zero(key) => *key,
            _ => None,
        }
    }

    /// The family of a real server in an answer that does not say it, as those of old kernels do not.
    pub(super) const fn family(&self) -> IpFamily {
        match self.virtual_key() {
            Some(key) => key.family(),
            None => IpFamily::V4,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResolveFamily | Self::ReadVersion => f.write_str("-L"),
            Self::AddVirtual(server) => write!(f, "-A {server}"),
            Self::EditVirtual(server) => write!(f, "-E {server}"),
            Self::DeleteVirtual(key) => write!(f, "-D {key}"),
            Self::FindVirtual(key) | Self::ListReal(key) => write!(f, "-L -n {key}"),
            Self::ListVirtual => f.write_str("-L -n"),
            Self::AddReal(key, server) => write!(f, "-a {key} {server}"),
            Self::EditReal(key, server) => write!(f, "-e {key} {server}"),
            Self::DeleteReal(key, server) => write!(f, "-d {key} -r {server}"),
            Self::Flush => f.write_str("-C"),
            Self::Zero(None) => f.write_str("-Z"),
            Self::Zero(Some(key)) => write!(f, "-Z {key}"),
            Self::ReadTimeouts => f.write_str("-L --timeout"),
            Self::SetTimeouts(timeouts) => write!(f, "--set {timeouts}"),
            Self::StartDaemon(daemon) => write!(f, "--start-daemon {daemon}"),
            Self::StopDaemon(role) => write!(f, "--stop-daemon {role}"),
            Self::ListDaemons => f.write_str("-L --daemon"),
        }
    }
}
