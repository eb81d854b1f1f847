//! What Services have in a table, before a change and after it, and the script that leads from one to the other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use super::object::{Class, Map};
use super::{Config, Kind, Leftover, Sink, command, family_str};
use crate::backend::Backend;
use crate::net::IpFamily;
use crate::plan::Plan;
use crate::rules::{Slots, Text};

/// What some Services have in a table, in parts that can be compared.
#[derive(Default)]
pub(super) struct Parts {
    elements: BTreeMap<(Map, String), String>,
    /// Where the slots of each frontend lead, from the first on: most of what there is. As text only what differs is written.
    slots: BTreeMap<(Map, String), Vec<SocketAddr>>,
    classes: BTreeSet<Class>,
    chains: BTreeMap<String, Text>,
    dynamic: BTreeMap<String, (Kind, Text)>,
}

impl Sink for Parts {
    fn element(&mut self, map: Map, key: impl FnOnce(&mut Text), value: impl FnOnce(&mut Text)) {
        let (mut of, mut to) = (Text::default(), Text::default());
        key(&mut of);
        value(&mut to);
        self.elements.insert((map, of.into_string()), to.into_string());
    }

    fn shared(&mut self, map: Map, ip: IpAddr) {
        self.element(map, |text| map.shared_key(text, ip), |_| ());
    }

    fn slots(&mut self, map: Map, key: &Text, slots: &Slots, backends: &[Backend]) {
        let leads = slots.iter().map(|(_, place)| backends[place].addr).collect();
        self.slots.insert((map, key.as_str().into()), leads);
    }

    fn class(&mut self, class: Class) {
        self.classes.insert(class);
    }

    fn chain(&mut self, name: String, rules: Text) {
        self.chains.insert(name, rules);
    }

    fn dynamic(&mut self, kind: Kind, name: String, spec: Text) {
        self.dynamic.insert(name, (kind, spec));
    }
}

impl Parts {
    /// Leaves out what is not to be deleted: other Services have it, too.
    pub(super) fn keep_shared(&mut self, after: &Self, plan: &Plan) {
        self.elements.retain(|(map, key), _| {
            after.elements.contains_key(&(*map, key.clone()))
                || !map.is_shared()
                || !shared_is_there(plan, *map, key)
        });
    }

    fn maps(&self) -> BTreeSet<Map> {
        self.elements.keys().chain(self.slots.keys()).map(|(map, _)| *map).collect()
    }

    pub(super) fn names(&self) -> BTreeSet<(Kind, String)> {
        let maps = self.maps().into_iter().map(|map| (map.kind(), alloc::format!("{map}")));
        let classes = self.classes.iter().map(|class| (Kind::Chain, alloc::format!("{class}")));
        let chains = self.chains.keys().map(|name| (Kind::Chain, name.clone()));
        let dynamic = self.dynamic.iter().map(|(name, (kind, _))| (*kind, name.clone()));
        maps.chain(classes).chain(chains).chain(dynamic).collect()
    }
}

/// Whether any Service still has an element that several may have.
fn shared_is_there(plan: &Plan, map: Map, key: &str) -> bool {
    let ip = key.split(' ').next().and_then(|ip| ip.parse().ok());
    ip.is_some_and(|ip| match map {
        Map::ClusterIps => plan.is_cluster_ip(ip),
        _ => plan.is_backend_here(ip),
    })
}

fn in_braces(script: &mut Text, lines: &Text) {
    script.str(" { ");
    for line in lines.as_str().lines() {
        script.str(line).str("; ");
    }
    script.str("}\n");
}

pub(super) fn write_delta(
    script: &mut Text,
    leftovers: &mut Vec<Leftover>,
    config: &Config,
    family: IpFamily,
    before: &Parts,
    after: &Parts,
) {
    let maps = |parts: &Parts| -> BTreeSet<Map> {
        parts.maps().into_iter().filter(|map| !map.is_fixed()).collect()
    };
    let (old_maps, new_maps) = (maps(before), maps(after));
    // Whether others have these already is not known here: adding and filling them again does no harm.
    for map in new_maps.difference(&old_maps) {
        let name = alloc::format!("{map}");
        command(script, "add", map.kind(), config, family, &name);
        let mut spec = Text::default();
        map.spec(&mut spec, family);
        in_braces(script, &spec);
    }
    for (name, (kind, spec)) in &after.dynamic {
        if before.dynamic.get(name) != Some(&(*kind, spec.clone())) {
            command(script, "add", *kind, config, family, name);
            in_braces(script, spec);
        }
    }
    let mut chains: Vec<(String, Text)> = Vec::new();
    for class in after.classes.difference(&before.classes) {
        chains.push((alloc::format!("{class}"), class.rules(family)));
    }
    let own = after.chains.iter().filter(|(name, rules)| before.chains.get(*name) != Some(*rules));
    chains.extend(own.map(|(name, rules)| (name.clone(), rules.clone())));
    // All are there before a rule of one leads to another.
    for verb in ["add", "flush"] {
        for (name, _) in &chains {
            command(script, verb, Kind::Chain, config, family, name).str("\n");
        }
    }
    for (name, rules) in &chains {
        for rule in rules.as_str().lines() {
            script.str("add rule ").str(family_str(family)).str(" ").str(config.table.as_str());
            script.str(" ").str(name).str(" ").str(rule).str("\n");
        }
    }
    // What an element's command begins with.
    let head = |verb: &str, map: Map| {
        let mut head = Text::default();
        head.str(verb).str(" element ").str(family_str(family)).str(" ");
        head.str(config.table.as_str()).str(" ").display(map).str(" { ");
        head
    };
    for ((map, key), value) in &before.elements {
        if after.elements.get(&(*map, key.clone())) != Some(value) {
            script.text(&head("delete", *map)).str(key).str(" }\n");
        }
    }
    for (at, leads) in &before.slots {
        let (kept, head) = (after.slots.get(at), head("delete", at.0));
        for (slot, lead) in (0..).zip(leads) {
            if kept.and_then(|kept| kept.get(slot as usize)) != Some(lead) {
                script.text(&head).str(&at.1).str(" . ").number(slot).str(" }\n");
            }
        }
    }
    for ((map, key), value) in &after.elements {
        if before.elements.get(&(*map, key.clone())) != Some(value) {
            script.text(&head("add", *map)).str(key);
            script.str(if value.is_empty() { "" } else { " : " }).str(value).str(" }\n");
        }
    }
    for (at, leads) in &after.slots {
        let (earlier, mut head) = (before.slots.get(at), head("add", at.0));
        head.str(&at.1);
        for (slot, lead) in (0..).zip(leads) {
            if earlier.and_then(|leads| leads.get(slot as usize)) != Some(lead) {
                script.slot(&head, slot, *lead);
                script.str(" }\n");
            }
        }
    }
    // Rules that are gone let go of what they referred to; the chains themselves may still be led to until the transaction is over.
    for name in before.chains.keys().filter(|name| !after.chains.contains_key(*name)) {
        command(script, "flush", Kind::Chain, config, family, name).str("\n");
        leftovers.push(Leftover { family, kind: Kind::Chain, name: name.clone() });
    }
    let (kept, gone) = (&after.dynamic, before.dynamic.iter());
    for (name, (kind, _)) in gone.filter(|(name, _)| !kept.contains_key(*name)) {
        command(script, "delete", *kind, config, family, name).str("\n");
    }
    let mut leave = |kind, name| leftovers.push(Leftover { family, kind, name });
    for map in old_maps.difference(&new_maps) {
        leave(map.kind(), alloc::format!("{map}"));
    }
    for class in before.classes.difference(&after.classes) {
        leave(Kind::Chain, alloc::format!("{class}"));
    }
}
