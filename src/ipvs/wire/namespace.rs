//! Attributes of what a network namespace has once, and of generic netlink's controller.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::{NonZeroU8, NonZeroU16, NonZeroU32};

use super::{Attributes, DecodeError, Name, Parsed, invalid, required};
use crate::ipvs::{Daemon, DaemonRole, Timeouts, Version};

const TIMEOUT_TCP: Name = Name(4, "IPVS_CMD_ATTR_TIMEOUT_TCP");
const TIMEOUT_TCP_FIN: Name = Name(5, "IPVS_CMD_ATTR_TIMEOUT_TCP_FIN");
const TIMEOUT_UDP: Name = Name(6, "IPVS_CMD_ATTR_TIMEOUT_UDP");

const VERSION: Name = Name(1, "IPVS_INFO_ATTR_VERSION");
const CONN_TAB_SIZE: Name = Name(2, "IPVS_INFO_ATTR_CONN_TAB_SIZE");

const STATE: Name = Name(1, "IPVS_DAEMON_ATTR_STATE");
const MCAST_IFN: Name = Name(2, "IPVS_DAEMON_ATTR_MCAST_IFN");
const SYNC_ID: Name = Name(3, "IPVS_DAEMON_ATTR_SYNC_ID");
const SYNC_MAXLEN: Name = Name(4, "IPVS_DAEMON_ATTR_SYNC_MAXLEN");
const MCAST_GROUP: Name = Name(5, "IPVS_DAEMON_ATTR_MCAST_GROUP");
const MCAST_GROUP6: Name = Name(6, "IPVS_DAEMON_ATTR_MCAST_GROUP6");
const MCAST_PORT: Name = Name(7, "IPVS_DAEMON_ATTR_MCAST_PORT");
const MCAST_TTL: Name = Name(8, "IPVS_DAEMON_ATTR_MCAST_TTL");

const FAMILY_ID: Name = Name(1, "CTRL_ATTR_FAMILY_ID");
const FAMILY_NAME: Name = Name(2, "CTRL_ATTR_FAMILY_NAME");

const FAMILY: &str = "IPVS";

pub(in crate::ipvs) fn put_family_name(to: &mut Attributes) {
    to.text(FAMILY_NAME, FAMILY);
}

pub(in crate::ipvs) fn put_family(to: &mut Attributes, id: u16) {
    put_family_name(to);
    to.u16(FAMILY_ID, id);
}

pub(in crate::ipvs) fn check_family_name(from: &Parsed<'_>) -> Result<(), DecodeError> {
    match required(FAMILY_NAME, from.text(FAMILY_NAME)?)? {
        FAMILY => Ok(()),
        _ => Err(invalid(FAMILY_NAME, "the family IPVS")),
    }
}

pub(in crate::ipvs) fn family_id(from: &Parsed<'_>) -> Result<u16, DecodeError> {
    required(FAMILY_ID, from.u16(FAMILY_ID)?)
}

pub(in crate::ipvs) fn put_timeouts(to: &mut Attributes, timeouts: &Timeouts) {
    let number = |timeout: Option<NonZeroU32>| timeout.map_or(0, NonZeroU32::get);
    to.u32(TIMEOUT_TCP, number(timeouts.tcp));
    to.u32(TIMEOUT_TCP_FIN, number(timeouts.tcp_fin));
    to.u32(TIMEOUT_UDP, number(timeouts.udp));
}

pub(in crate::ipvs) fn timeouts(from: &Parsed<'_>) -> Result<Timeouts, DecodeError> {
    let timeout = |name| Ok(from.u32(name)?.and_then(NonZeroU32::new));
    Ok(Timeouts {
        tcp: timeout(TIMEOUT_TCP)?,
        tcp_fin: timeout(TIMEOUT_TCP_FIN)?,
        udp: timeout(TIMEOUT_UDP)?,
    })
}

pub(in crate::ipvs) fn put_version(to: &mut Attributes, version: Version) {
    let Version { major, minor, patch, connection_table_size } = version;
    to.u32(VERSION, u32::from_be_bytes([0, major, minor, patch]));
    to.u32(CONN_TAB_SIZE, connection_table_size);
}

pub(in crate::ipvs) fn version(from: &Parsed<'_>) -> Result<Version, DecodeError> {
    let [_, major, minor, patch] = required(VERSION, from.u32(VERSION)?)?.to_be_bytes();
    let connection_table_size = required(CONN_TAB_SIZE, from.u32(CONN_TAB_SIZE)?)?;
    Ok(Version { major, minor, patch, connection_table_size })
}

/// In the order in which both `ipvsadm` and the kernel have them.
pub(in crate::ipvs) fn put_daemon(to: &mut Attributes, daemon: &Daemon) {
    to.u32(STATE, state(daemon.role));
    to.text(MCAST_IFN, daemon.interface.as_str());
    to.u32(SYNC_ID, daemon.sync_id.into());
    if let Some(max_len) = daemon.max_len {
        to.u16(SYNC_MAXLEN, max_len.get());
    }
    if let Some(port) = daemon.port {
        to.u16(MCAST_PORT, port.get());
    }
    if let Some(ttl) = daemon.ttl {
        to.u8(MCAST_TTL, ttl.get());
    }
    match daemon.group {
        Some(IpAddr::V4(group)) => to.bytes(MCAST_GROUP, &group.octets()),
        Some(IpAddr::V6(group)) => to.bytes(MCAST_GROUP6, &group.octets()),
        None => {}
    }
}

/// A daemon's role, and beside it what `ipvsadm` fills in and the kernel does not heed.
pub(in crate::ipvs) fn put_role(to: &mut Attributes, role: DaemonRole) {
    to.u32(STATE, state(role));
    to.text(MCAST_IFN, "");
    to.u32(SYNC_ID, 0);
}

const fn state(role: DaemonRole) -> u32 {
    match role {
        DaemonRole::Master => 1,
        DaemonRole::Backup => 2,
    }
}

pub(in crate::ipvs) fn role(from: &Parsed<'_>) -> Result<DaemonRole, DecodeError> {
    match required(STATE, from.u32(STATE)?)? {
        1 => Ok(DaemonRole::Master),
        2 => Ok(DaemonRole::Backup),
        _ => Err(invalid(STATE, "1, master, or 2, backup")),
    }
}

pub(in crate::ipvs) fn daemon(from: &Parsed<'_>) -> Result<Daemon, DecodeError> {
    let role = role(from)?;
    let interface = required(MCAST_IFN, from.text(MCAST_IFN)?)?;
    let interface =
        interface.parse().map_err(|_| invalid(MCAST_IFN, "the name of an interface"))?;
    let sync_id = required(SYNC_ID, from.u32(SYNC_ID)?)?;
    let sync_id = u8::try_from(sync_id).map_err(|_| invalid(SYNC_ID, "0 to 255"))?;
    let group = match (from.number::<4>(MCAST_GROUP)?, from.number::<16>(MCAST_GROUP6)?) {
        (Some(group), _) => Some(Ipv4Addr::from(group).into()),
        (None, Some(group)) => Some(Ipv6Addr::from(group).into()),
        (None, None) => None,
    };
    Ok(Daemon {
        max_len: from.u16(SYNC_MAXLEN)?.and_then(NonZeroU16::new),
        group,
        port: from.u16(MCAST_PORT)?.and_then(NonZeroU16::new),
        ttl: from.u8(MCAST_TTL)?.and_then(NonZeroU8::new),
        ..Daemon::new(role, interface, sync_id)
    })
}
