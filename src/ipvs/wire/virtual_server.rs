//! Attributes of virtual servers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU32;

use super::{Attributes, DecodeError, Name, Parsed, invalid, required, stats};
use crate::ipvs::{
    ListedVirtual, Netmask, Persistence, SchedulerFlags, Seconds, VirtualKey, VirtualServer,
};
use crate::net::{IpFamily, Protocol};

const AF: Name = Name(1, "IPVS_SVC_ATTR_AF");
const PROTOCOL: Name = Name(2, "IPVS_SVC_ATTR_PROTOCOL");
const ADDR: Name = Name(3, "IPVS_SVC_ATTR_ADDR");
const PORT: Name = Name(4, "IPVS_SVC_ATTR_PORT");
const FWMARK: Name = Name(5, "IPVS_SVC_ATTR_FWMARK");
const SCHED_NAME: Name = Name(6, "IPVS_SVC_ATTR_SCHED_NAME");
const FLAGS: Name = Name(7, "IPVS_SVC_ATTR_FLAGS");
const TIMEOUT: Name = Name(8, "IPVS_SVC_ATTR_TIMEOUT");
const NETMASK: Name = Name(9, "IPVS_SVC_ATTR_NETMASK");
const STATS: Name = Name(10, "IPVS_SVC_ATTR_STATS");
const PE_NAME: Name = Name(11, "IPVS_SVC_ATTR_PE_NAME");
const STATS64: Name = Name(12, "IPVS_SVC_ATTR_STATS64");

const PERSISTENT: u32 = 0x01;
/// The kernel's own, which every virtual server has.
const HASHED: u32 = 0x02;
const ONE_PACKET: u32 = 0x04;
const SCHED_1: u32 = 0x08;
const SCHED_2: u32 = 0x10;
const SCHED_3: u32 = 0x20;
const CONTENT: u32 = PERSISTENT | ONE_PACKET | SCHED_1 | SCHED_2 | SCHED_3;

/// What tells a virtual server from others, and no more.
pub(in crate::ipvs) fn put_virtual_key(to: &mut Attributes, key: VirtualKey) {
    to.family(AF, key.family());
    match key {
        VirtualKey::Address { protocol, ip, port } => {
            to.u16(PROTOCOL, protocol.number().into());
            to.ip(ADDR, ip);
            to.port(PORT, port);
        }
        VirtualKey::Mark { mark, .. } => to.u32(FWMARK, mark.get()),
    }
}

/// The same with what `ipvsadm` fills in and the kernel does not heed.
pub(in crate::ipvs) fn put_named(to: &mut Attributes, key: VirtualKey, netmask: Option<Netmask>) {
    put_virtual_key(to, key);
    to.text(SCHED_NAME, "");
    put_flags(to, 0);
    to.u32(TIMEOUT, 0);
    to.bytes(NETMASK, &netmask.map_or([0; 4], Netmask::to_wire));
}

pub(in crate::ipvs) fn put_virtual(to: &mut Attributes, server: &VirtualServer) {
    put_content(to, server, 0);
}

pub(in crate::ipvs) fn put_listed_virtual(to: &mut Attributes, listed: &ListedVirtual) {
    put_content(to, &listed.server, HASHED);
    to.nest_unflagged(STATS, |to| stats::put_32(to, &listed.stats));
    to.nest_unflagged(STATS64, |to| stats::put_64(to, &listed.stats));
}

fn put_content(to: &mut Attributes, server: &VirtualServer, more_flags: u32) {
    put_virtual_key(to, server.key());
    to.text(SCHED_NAME, server.scheduler.as_str());
    if let Some(engine) = &server.engine {
        to.text(PE_NAME, engine.as_str());
    }
    let flags = [
        (PERSISTENT, server.persistence().is_some()),
        (ONE_PACKET, server.one_packet),
        (SCHED_1, server.flags.fallback),
        (SCHED_2, server.flags.port),
        (SCHED_3, server.flags.third),
    ];
    let flags = flags.iter().filter(|(_, set)| *set).fold(more_flags, |all, (bit, _)| all | bit);
    put_flags(to, flags);
    let (timeout, netmask) = match server.persistence() {
        Some(Persistence { timeout, netmask }) => (timeout, netmask),
        None => (Seconds(0), Netmask::host(server.key().family())),
    };
    to.u32(TIMEOUT, timeout.0);
    to.bytes(NETMASK, &netmask.to_wire());
}

fn put_flags(to: &mut Attributes, flags: u32) {
    let [flags, mask] = [flags, u32::MAX].map(u32::to_ne_bytes);
    to.bytes(FLAGS, &[flags, mask].concat());
}

pub(in crate::ipvs) fn virtual_key(from: &Parsed<'_>) -> Result<VirtualKey, DecodeError> {
    let family = required(AF, from.family(AF)?)?;
    if let Some(mark) = from.u32(FWMARK)? {
        // The kernel takes the mark 0 for TCP to no address.
        let unspecified: IpAddr = match family {
            IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
            IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let (protocol, port) = (Protocol::Tcp, 0);
        return Ok(match NonZeroU32::new(mark) {
            Some(mark) => VirtualKey::Mark { mark, family },
            None => VirtualKey::Address { protocol, ip: unspecified, port },
        });
    }
    let protocol = required(PROTOCOL, from.u16(PROTOCOL)?)?;
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = known.into_iter().find(|known| u16::from(known.number()) == protocol);
    Ok(VirtualKey::Address {
        ip: required(ADDR, from.ip(ADDR, family)?)?,
        port: required(PORT, from.port(PORT)?)?,
        protocol: protocol.ok_or_else(|| invalid(PROTOCOL, "6, TCP, 17, UDP, or 132, SCTP"))?,
    })
}

/// All of a virtual server. Of the flags those count that the mask has; in an edit it has to have all that there are.
pub(in crate::ipvs) fn virtual_server(
    from: &Parsed<'_>,
    edit: bool,
) -> Result<VirtualServer, DecodeError> {
    let key = virtual_key(from)?;
    let scheduler = required(SCHED_NAME, from.text(SCHED_NAME)?)?;
    let scheduler =
        scheduler.parse().map_err(|_| invalid(SCHED_NAME, "the name of a scheduler"))?;
    let flags: [u8; 8] = required(FLAGS, from.number(FLAGS)?)?;
    let [flags, mask] =
        [&flags[..4], &flags[4..]].map(|half| half.try_into().map_or(0, u32::from_ne_bytes));
    if edit && mask & CONTENT != CONTENT {
        return Err(invalid(FLAGS, "a mask of all flags"));
    }
    let flag = |bit| flags & mask & bit != 0;
    let timeout = Seconds(required(TIMEOUT, from.u32(TIMEOUT)?)?);
    let netmask = required(NETMASK, from.number(NETMASK)?)?;
    let netmask = match key.family() {
        IpFamily::V4 => Netmask::from_mask(netmask.into()),
        IpFamily::V6 => {
            let prefix_len = u8::try_from(u32::from_ne_bytes(netmask)).unwrap_or(0);
            Netmask::v6(prefix_len).map_err(|_| invalid(NETMASK, "a prefix length of 1 to 128"))?
        }
    };
    let engine = from.text(PE_NAME)?.filter(|name| !name.is_empty());
    let engine = engine
        .map(str::parse)
        .transpose()
        .map_err(|_| invalid(PE_NAME, "the name of a persistence engine"))?;
    let mut server = VirtualServer::new(key, scheduler);
    let persistence = flag(PERSISTENT).then_some(Persistence::new(timeout, netmask));
    let of_one_family = server.set_persistence(persistence);
    debug_assert!(of_one_family.is_ok(), "the netmask was read by the key's family");
    server.flags =
        SchedulerFlags { fallback: flag(SCHED_1), port: flag(SCHED_2), third: flag(SCHED_3) };
    server.one_packet = flag(ONE_PACKET);
    server.engine = engine;
    Ok(server)
}

pub(in crate::ipvs) fn listed_virtual(from: &Parsed<'_>) -> Result<ListedVirtual, DecodeError> {
    let server = virtual_server(from, false)?;
    Ok(ListedVirtual { server, stats: stats::stats(from, STATS, STATS64)? })
}
