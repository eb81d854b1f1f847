//! Every packet of `tests/data/flows` as a real connection through IPVS.

use svcplane::plan::Mode;

use crate::kernel::scenarios::{Plane, play_all};

use super::ready;

#[test]
fn packets_go_where_the_scenarios_say() {
    if ready("flows").is_some() {
        play_all(&[(Mode::Ipvs, &[Plane::Ipvs])]);
    }
}
