//! Scripts by chance, the same for the same seed.

use serde_json::Value;

use crate::objects::{node, service, slice};
use crate::standin::{Answer, NODES, SERVICES, SLICES, Store};
use crate::world::World;

const KINDS: [&str; 3] = [SERVICES, SLICES, NODES];

struct Chance(u64);

impl Chance {
    /// A number below another.
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the better ones.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[usize::try_from(self.below(these.len() as u64)).unwrap()]
    }
}

/// Runs a script; `steps` are many small things that happen to the server or on the way.
pub(crate) async fn run(seed: u64, steps: usize) {
    let mut chance = Chance(seed);
    let mut world = World::new().await;
    world.server.store().page = usize::try_from(1 + chance.below(4)).unwrap();
    world.server.store().put(NODES, node("node-1", "a", "192.168.0.11", "10.1.1.0/24"));
    for _ in 0..10 {
        change(&mut chance, &mut world.server.store());
    }
    world.start();
    // Lines since the last list: they may be said again.
    let mut lines: Vec<(&str, String)> = Vec::new();
    for _ in 0..steps {
        let kind = chance.of(&KINDS);
        let broken = chance.of(&[
            Answer::Status(500, "etcdserver: leader changed"),
            Answer::Status(429, "too many requests"),
            Answer::Page(502, "bad gateway"),
            Answer::Page(200, "{"),
            Answer::HangUp,
        ]);
        let what = chance.below(20);
        {
            let store = &mut world.server.store();
            match what {
                0..9 => lines.extend(change(&mut chance, store)),
                9 => drop(store.bookmark(kind)),
                10 | 11 => {
                    if let Some((kind, line)) = pick(&mut chance, &lines) {
                        store.send(kind, &line);
                    }
                }
                12 => store.end(kind),
                13 => {
                    let line = lines.last().map_or("{\"type\":\"BOOKMARK\"}", |(_, line)| line);
                    store.cut(kind, line);
                }
                14 => store.answer_lists(kind, &[broken]),
                15 => {
                    store.answer_watches(kind, &[broken]);
                    store.end(kind);
                }
                // From here on things are missed, and listed anew.
                16 => store.expire(kind),
                17 => {
                    store.end(kind);
                    change(&mut chance, store);
                    for kind in KINDS {
                        store.end(kind);
                        store.compact(kind);
                    }
                }
                18 => {
                    store.answer_watches(kind, &[Answer::Status(410, "too old resource version")]);
                    store.end(kind);
                }
                _ => {
                    store.send(kind, "}{");
                    store.end(kind);
                }
            }
        }
        if what >= 14 || chance.below(8) == 0 {
            world.settled().await;
        }
        if what >= 14 {
            lines.clear();
        }
    }
    world.settled().await;
}

/// Changes something. The lines that tell of it.
fn change(chance: &mut Chance, store: &mut Store) -> Option<(&'static str, String)> {
    let name = |chance: &mut Chance| chance.of(&["web", "db", "cache", "queue", "mail"]);
    match chance.below(8) {
        0 | 1 => {
            let (name, ip) = (name(chance), format!("10.96.0.{}", 1 + chance.below(6)));
            Some((SERVICES, store.put(SERVICES, service(name, &ip))))
        }
        2 => delete(chance, store, SERVICES),
        3..6 => {
            let (slice_name, of) = (format!("slice-{}", chance.below(8)), name(chance));
            let addresses: Vec<String> = (0..chance.below(4))
                .map(|_| format!("10.1.{}.{}", 1 + chance.below(3), 1 + chance.below(9)))
                .collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            Some((SLICES, store.put(SLICES, slice(&slice_name, of, &addresses))))
        }
        6 => delete(chance, store, SLICES),
        _ => {
            let zone = chance.of(&["a", "b"]);
            let address = chance.of(&["192.168.0.11", "192.168.0.12"]);
            Some((NODES, store.put(NODES, node("node-1", zone, address, "10.1.1.0/24"))))
        }
    }
}

fn delete(
    chance: &mut Chance,
    store: &mut Store,
    kind: &'static str,
) -> Option<(&'static str, String)> {
    let metadata = |object: &Value| {
        let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        format!("{}/{}", text("namespace"), text("name"))
    };
    let names: Vec<String> = store.objects(kind).map(metadata).collect();
    let name = pick(chance, &names)?;
    Some((kind, store.delete(kind, &name)))
}

fn pick<T: Clone>(chance: &mut Chance, these: &[T]) -> Option<T> {
    let at = chance.below(these.len().max(1) as u64);
    these.get(usize::try_from(at).unwrap()).cloned()
}
