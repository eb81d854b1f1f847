//! Attributes of statistics.

use super::{Attributes, DecodeError, Name, Parsed};
use crate::ipvs::Stats;

const CONNS: Name = Name(1, "IPVS_STATS_ATTR_CONNS");
const INPKTS: Name = Name(2, "IPVS_STATS_ATTR_INPKTS");
const OUTPKTS: Name = Name(3, "IPVS_STATS_ATTR_OUTPKTS");
const INBYTES: Name = Name(4, "IPVS_STATS_ATTR_INBYTES");
const OUTBYTES: Name = Name(5, "IPVS_STATS_ATTR_OUTBYTES");
const CPS: Name = Name(6, "IPVS_STATS_ATTR_CPS");
const INPPS: Name = Name(7, "IPVS_STATS_ATTR_INPPS");
const OUTPPS: Name = Name(8, "IPVS_STATS_ATTR_OUTPPS");
const INBPS: Name = Name(9, "IPVS_STATS_ATTR_INBPS");
const OUTBPS: Name = Name(10, "IPVS_STATS_ATTR_OUTBPS");

fn all(stats: &Stats) -> [(Name, u64); 10] {
    [
        (CONNS, stats.connections),
        (INPKTS, stats.packets_in),
        (OUTPKTS, stats.packets_out),
        (INBYTES, stats.bytes_in),
        (OUTBYTES, stats.bytes_out),
        (CPS, stats.connections_per_second),
        (INPPS, stats.packets_in_per_second),
        (OUTPPS, stats.packets_out_per_second),
        (INBPS, stats.bytes_in_per_second),
        (OUTBPS, stats.bytes_out_per_second),
    ]
}

/// The older form: all but the bytes are the lower halves of the numbers.
pub(super) fn put_32(to: &mut Attributes, stats: &Stats) {
    for (name, value) in all(stats) {
        if matches!(name, INBYTES | OUTBYTES) {
            to.u64(name, value);
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "as the kernel has it")]
            to.u32(name, value as u32);
        }
    }
}

pub(super) fn put_64(to: &mut Attributes, stats: &Stats) {
    for (name, value) in all(stats) {
        to.u64(name, value);
    }
}

/// From the newer form, or else from the older one; what is in neither is 0.
pub(super) fn stats(from: &Parsed<'_>, narrow: Name, wide: Name) -> Result<Stats, DecodeError> {
    let (stats, wide) = match from.nested(wide)? {
        Some(stats) => (stats, true),
        None => match from.nested(narrow)? {
            Some(stats) => (stats, false),
            None => return Ok(Stats::default()),
        },
    };
    let number = |name: Name| {
        let value = if wide || matches!(name, INBYTES | OUTBYTES) {
            stats.u64(name)?
        } else {
            stats.u32(name)?.map(u64::from)
        };
        Ok(value.unwrap_or(0))
    };
    Ok(Stats {
        connections: number(CONNS)?,
        packets_in: number(INPKTS)?,
        packets_out: number(OUTPKTS)?,
        bytes_in: number(INBYTES)?,
        bytes_out: number(OUTBYTES)?,
        connections_per_second: number(CPS)?,
        packets_in_per_second: number(INPPS)?,
        packets_out_per_second: number(OUTPPS)?,
        bytes_in_per_second: number(INBPS)?,
        bytes_out_per_second: number(OUTBPS)?,
    })
}
