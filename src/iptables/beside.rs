//! The rules that go with IPVS.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::nat::{Pods, write_masquerading};
use super::shared::Tables;
use super::{Config, Jump};
use crate::net::IpFamily;
use crate::plan::Plan;
use crate::rules::set_name;

pub(super) fn rules(plan: &Plan, family: IpFamily, config: &Config) -> (Tables, Vec<Jump>) {
    let mut tables = Tables::default();
    let chain = |kind| config.chain(kind);
    let matches = |set: &str, of: &str| {
        format!("-m set --match-set {} {of} ", set_name(&config.prefix, family, set))
    };
    let to = "dst,dst";

    for table in [&mut tables.mangle.chains, &mut tables.filter.chains] {
        table.begin(chain("PROXY-FIREWALL"));
        let ranged = matches("RANGED", to);
        table.rule().str(&ranged).str("-j ").chain(&chain("SOURCE-RANGES")).str("\n");
        table.begin(chain("SOURCE-RANGES"));
        table.rule().str(&matches("SOURCES", "dst,dst,src")).str("-j RETURN\n");
        table.rule().str("-j DROP\n");
    }

    let filter = &mut tables.filter.chains;
    let mark = config.mark();
    filter.begin(chain("FORWARD"));
    filter.rule().display(format_args!("-m mark --mark {mark:#010x}/{mark:#010x} -j ACCEPT\n"));
    filter.rule().str("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
    filter.begin(chain("NODEPORTS"));
    let health = format!("-p tcp {}", matches("HEALTH", "dst"));
    filter.rule().str(&health).str("-j ACCEPT\n");
    filter.begin(chain("IPVS-FILTER"));
    filter.rule().str(&matches("FRONTENDS", to)).str("-j RETURN\n");
    filter.rule().str(&health).str("-j RETURN\n");
    // The addresses are the node's: whatever listens at all addresses of the node would be there as well.
    let addressed = matches("IPS", "dst");
    filter.rule().str("-m conntrack --ctstate NEW ").str(&addressed).str("-j REJECT\n");

    let nat = &mut tables.nat.chains;
    let pods = Pods::of(plan, family, config).are;
    nat.begin(chain("SERVICES"));
    for (set, target) in
        [("MASQ-ALL", "MARK-MASQ"), ("MASQ-OTHERS", "MASQ-OTHERS"), ("MASQ-NODE", "MASQ-NODE")]
    {
        let masquerades = matches(set, to);
        nat.rule().str(&masquerades).str("-j ").chain(&chain(target)).str("\n");
    }
    // Nobody behind this translates what IPVS will.
    nat.rule().str(&matches("FRONTENDS", to)).str("-j ACCEPT\n");
    for (name, who) in [("MASQ-OTHERS", ""), ("MASQ-NODE", "-m addrtype --src-type LOCAL ")] {
        nat.begin(chain(name));
        for pods in &pods {
            nat.rule().str(pods).str("-j RETURN\n");
        }
        nat.rule().str(who).str("-j ").chain(&chain("MARK-MASQ")).str("\n");
    }
    nat.begin(chain("POSTROUTING"));
    nat.rule().str(&matches("LOOP-BACK", "dst,dst,src")).str("-j MASQUERADE\n");
    write_masquerading(nat, config);

    let mut jumps = Vec::new();
    let mut jump = |table, chain, to: &str| {
        let rule = ["-j".to_string(), config.chain(to).to_string()].to_vec();
        jumps.push(Jump { table, chain, rule });
    };
    jump("mangle", "OUTPUT", "PROXY-FIREWALL");
    jump("filter", "FORWARD", "FORWARD");
    jump("filter", "INPUT", "IPVS-FILTER");
    jump("filter", "INPUT", "NODEPORTS");
    jump("filter", "INPUT", "PROXY-FIREWALL");
    jump("nat", "OUTPUT", "SERVICES");
    jump("nat", "PREROUTING", "SERVICES");
    jump("nat", "POSTROUTING", "POSTROUTING");
    (tables, jumps)
}
