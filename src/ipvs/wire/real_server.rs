//! Attributes of real servers.

use core::num::NonZeroU16;

use super::{Attributes, DecodeError, Name, Parsed, invalid, required, stats};
use crate::ipvs::{
    Forwarding, ListedReal, OtherForwarding, RealKey, RealServer, Thresholds, Tunnel, Weight,
};
use crate::net::IpFamily;

const ADDR: Name = Name(1, "IPVS_DEST_ATTR_ADDR");
const PORT: Name = Name(2, "IPVS_DEST_ATTR_PORT");
const FWD_METHOD: Name = Name(3, "IPVS_DEST_ATTR_FWD_METHOD");
const WEIGHT: Name = Name(4, "IPVS_DEST_ATTR_WEIGHT");
const U_THRESH: Name = Name(5, "IPVS_DEST_ATTR_U_THRESH");
const L_THRESH: Name = Name(6, "IPVS_DEST_ATTR_L_THRESH");
const ACTIVE_CONNS: Name = Name(7, "IPVS_DEST_ATTR_ACTIVE_CONNS");
const INACT_CONNS: Name = Name(8, "IPVS_DEST_ATTR_INACT_CONNS");
const PERSIST_CONNS: Name = Name(9, "IPVS_DEST_ATTR_PERSIST_CONNS");
const STATS: Name = Name(10, "IPVS_DEST_ATTR_STATS");
const ADDR_FAMILY: Name = Name(11, "IPVS_DEST_ATTR_ADDR_FAMILY");
const STATS64: Name = Name(12, "IPVS_DEST_ATTR_STATS64");
const TUN_TYPE: Name = Name(13, "IPVS_DEST_ATTR_TUN_TYPE");
const TUN_PORT: Name = Name(14, "IPVS_DEST_ATTR_TUN_PORT");
const TUN_FLAGS: Name = Name(15, "IPVS_DEST_ATTR_TUN_FLAGS");

const MASQUERADE: u32 = 0;
const LOCAL: u32 = 1;
const TUNNEL: u32 = 2;
const DIRECT: u32 = 3;
/// The bits of the forwarding method that count.
const METHODS: u32 = 7;

const IPIP: u8 = 0;
const GUE: u8 = 1;
const GRE: u8 = 2;

const CHECKSUM: u16 = 1;
const REMOTE_CHECKSUM: u16 = 2;

pub(in crate::ipvs) fn put_real(to: &mut Attributes, server: &RealServer) {
    to.family(ADDR_FAMILY, IpFamily::of(server.key.ip));
    put_content(to, server);
}

/// The identity, and beside it what `ipvsadm` fills in and the kernel does not heed.
pub(in crate::ipvs) fn put_real_key(to: &mut Attributes, key: RealKey) {
    put_real(to, &RealServer::new(key.into(), Forwarding::Direct));
}

pub(in crate::ipvs) fn put_listed_real(to: &mut Attributes, listed: &ListedReal) {
    put_content(to, &listed.server);
    to.u32(ACTIVE_CONNS, listed.active);
    to.u32(INACT_CONNS, listed.inactive);
    to.u32(PERSIST_CONNS, listed.persistent);
    to.family(ADDR_FAMILY, IpFamily::of(listed.server.key.ip));
    to.nest_unflagged(STATS, |to| stats::put_32(to, &listed.stats));
    to.nest_unflagged(STATS64, |to| stats::put_64(to, &listed.stats));
}

fn put_content(to: &mut Attributes, server: &RealServer) {
    to.ip(ADDR, server.key.ip);
    to.port(PORT, server.key.port);
    let (method, tunnel) = match server.forwarding {
        Forwarding::Masquerade => (MASQUERADE, Tunnel::Ipip),
        Forwarding::Local => (LOCAL, Tunnel::Ipip),
        Forwarding::Tunnel(tunnel) => (TUNNEL, tunnel),
        Forwarding::Direct => (DIRECT, Tunnel::Ipip),
        Forwarding::Other(other) => (other.get().into(), Tunnel::Ipip),
    };
    let (kind, port, checksum, remote_checksum) = match tunnel {
        Tunnel::Ipip => (IPIP, 0, false, false),
        Tunnel::Gue { port, checksum, remote_checksum } => {
            (GUE, port.get(), checksum, remote_checksum)
        }
        Tunnel::Gre { checksum } => (GRE, 0, checksum, false),
    };
    to.u32(FWD_METHOD, method);
    to.u32(WEIGHT, server.weight.get());
    to.u8(TUN_TYPE, kind);
    to.port(TUN_PORT, port);
    let checksum = if checksum { CHECKSUM } else { 0 };
    to.u16(TUN_FLAGS, checksum | if remote_checksum { REMOTE_CHECKSUM } else { 0 });
    to.u32(U_THRESH, server.thresholds.upper());
    to.u32(L_THRESH, server.thresholds.lower());
}

/// The family is the virtual server's unless it is said.
pub(in crate::ipvs) fn real_key(
    from: &Parsed<'_>,
    family: IpFamily,
) -> Result<RealKey, DecodeError> {
    let family = from.family(ADDR_FAMILY)?.unwrap_or(family);
    let ip = required(ADDR, from.ip(ADDR, family)?)?;
    Ok(RealKey { ip, port: required(PORT, from.port(PORT)?)? })
}

pub(in crate::ipvs) fn real(
    from: &Parsed<'_>,
    family: IpFamily,
) -> Result<RealServer, DecodeError> {
    let key = real_key(from, family)?;
    let forwarding = match required(FWD_METHOD, from.u32(FWD_METHOD)?)? & METHODS {
        MASQUERADE => Forwarding::Masquerade,
        LOCAL => Forwarding::Local,
        TUNNEL => Forwarding::Tunnel(tunnel(from)?),
        DIRECT => Forwarding::Direct,
        other => {
            let other = u8::try_from(other).ok().and_then(OtherForwarding::new);
            Forwarding::Other(other.ok_or_else(|| invalid(FWD_METHOD, "0 to 7"))?)
        }
    };
    let out_of_range =
        |name: Name, expected| DecodeError::OutOfRange { attribute: name.1, expected };
    let weight = Weight::new(required(WEIGHT, from.u32(WEIGHT)?)?);
    let weight = weight.ok_or_else(|| out_of_range(WEIGHT, "0 to 2147483647"))?;
    let upper = required(U_THRESH, from.u32(U_THRESH)?)?;
    let lower = required(L_THRESH, from.u32(L_THRESH)?)?;
    let thresholds = Thresholds::new(lower, upper)
        .map_err(|_| out_of_range(L_THRESH, "no more than the upper threshold"))?;
    Ok(RealServer { key, forwarding, weight, thresholds })
}

/// A tunnel is in IP unless it is said; older kernels do not say it.
fn tunnel(from: &Parsed<'_>) -> Result<Tunnel, DecodeError> {
    let flags = from.u16(TUN_FLAGS)?.unwrap_or(0);
    let (checksum, remote_checksum) = (flags & CHECKSUM != 0, flags & REMOTE_CHECKSUM != 0);
    match from.u8(TUN_TYPE)?.unwrap_or(IPIP) {
        IPIP => Ok(Tunnel::Ipip),
        GUE => {
            let port = from.port(TUN_PORT)?.and_then(NonZeroU16::new);
            let port = port.ok_or_else(|| invalid(TUN_PORT, "a port"))?;
            Ok(Tunnel::Gue { port, checksum, remote_checksum })
        }
        GRE => Ok(Tunnel::Gre { checksum }),
        _ => Err(invalid(TUN_TYPE, "0, IP in IP, 1, GUE, or 2, GRE")),
    }
}

pub(in crate::ipvs) fn listed_real(
    from: &Parsed<'_>,
    family: IpFamily,
) -> Result<ListedReal, DecodeError> {
    Ok(ListedReal {
        server: real(from, family)?,
        active: from.u32(ACTIVE_CONNS)?.unwrap_or(0),
        inactive: from.u32(INACT_CONNS)?.unwrap_or(0),
        persistent: from.u32(PERSIST_CONNS)?.unwrap_or(0),
        stats: stats::stats(from, STATS, STATS64)?,
    })
}
