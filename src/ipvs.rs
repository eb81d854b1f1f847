//! IPVS in the kernel: its virtual and real servers as values, and the messages of generic netlink that manage them.
//!
//! ```
//! use svcplane::ipvs::{Command, Exchange, Forwarding, RealServer, Seconds, VirtualKey, VirtualServer};
//!
//! let key = VirtualKey::tcp("10.96.0.10:80".parse()?);
//! let web = VirtualServer::new(key, "rr".parse()?).persistent(Seconds(10_800));
//! let pod = RealServer::new("10.1.0.1:8080".parse()?, Forwarding::Masquerade);
//!
//! let commands = [Command::AddVirtual(web), Command::AddReal(key, pod)];
//! // A command prints as what one would give `ipvsadm`.
//! assert_eq!(commands[0].to_string(), "-A -t 10.96.0.10:80 -s rr -p 10800");
//! assert_eq!(commands[1].to_string(), "-a -t 10.96.0.10:80 -r 10.1.0.1:8080 -m -w 1");
//!
//! // What goes to the kernel: the number of the family is what `Command::ResolveFamily` asks for.
//! let mut exchange = Exchange::new(commands[0], 28, 1);
//! assert_eq!(exchange.request()[..8], [104, 0, 0, 0, 28, 0, 5, 0]);
//! // What comes back: an acknowledgement.
//! let answer = [20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
//! assert!(exchange.receive(&answer)?.is_empty());
//! assert!(exchange.is_over());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Bytes in, bytes out.** There is no socket here. A program sends [`Exchange::request`] through a socket of `NETLINK_GENERIC`, hands each
//! datagram that it receives to [`Exchange::receive`], and takes what comes of it, until the [exchange is over](Exchange::is_over). The capability
//! `CAP_NET_ADMIN` in the network namespace is needed for all commands, those that only read included.
//!
//! **The other end**, [`Request`], is for what stands in for a kernel: it reads requests and writes answers.
//!
//! **Order.** A real server that is added comes to the head of the kernel's list, and the schedulers walk it from there; an edit leaves it where
//! it is, but makes `wrr` begin anew, so that edits that change nothing are better left out.
//!
//! `DIFFERENCE`: virtual servers of protocols other than TCP, UDP and SCTP, which the kernel lets anyone make and never uses,
//! cannot be written, and are [`Reply::Unreadable`]. So are names of schedulers and interfaces in characters beyond visible ASCII.
//!
//! Requests are byte for byte those of `ipvsadm` 1.31. Source: Linux 6.1, `ip_vs.h` and the requests and answers of a running
//! kernel.
//!
//! **Cost.** Messages are written and read in one pass. [`compile`] and [`reconcile`] are O(n log n) in virtual and real servers, [`delta`] is in what a
//! change concerns.

mod command;
mod daemon;
mod delta;
mod desired;
mod error;
mod exchange;
mod ipset;
mod name;
mod nft;
mod real_server;
mod reconcile;
mod reply;
mod request;
mod sets;
mod virtual_server;
mod wire;

pub use command::Command;
pub use daemon::{Daemon, DaemonRole, Timeouts};
pub use delta::{Delta, delta};
pub use desired::{Actual, ActualServer, Config, Desired, DesiredServer, compile};
pub use error::CommandError;
pub use exchange::{Exchange, ExchangeError};
pub use name::{
    EngineName, NotInKernel, ParseEngineNameError, ParseSchedulerNameError, SchedulerName,
};
pub use nft::{nftables, nftables_delta, nftables_remove};
pub use real_server::{
    Forwarding, OtherForwarding, RealKey, RealServer, Thresholds, ThresholdsError, Tunnel, Weight,
};
pub use reconcile::{Drain, reconcile};
pub use reply::{ListedReal, ListedVirtual, Reply, Stats, Version};
pub use request::Request;
pub use sets::Sets;
pub use virtual_server::{
    MismatchedNetmask, Netmask, NetmaskError, Persistence, SchedulerFlags, Seconds, VirtualKey,
    VirtualServer,
};
pub use wire::DecodeError;
