//! Every algorithm against the kernel's rules written naively, and worked examples of the rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use svcplane::backend::Flow;
use svcplane::sched::{Algorithm, Flags};

use crate::sched_model::{Both, Op, Wanted, addr, flow, sip};

const FLAGS: [Flags; 5] = [
    Flags { port: false, fallback: false, head: true },
    Flags { port: false, fallback: true, head: true },
    Flags { port: true, fallback: false, head: true },
    Flags { port: true, fallback: true, head: true },
    Flags { port: false, fallback: true, head: false },
];

/// The default flags, but for the kernel's start.
const KERNEL_START: Flags = FLAGS[1];

fn flags() -> impl Strategy<Value = Flags> {
    prop::sample::select(&FLAGS)
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![
        12 => 0_u32..6,
        4 => (1_u32..5).prop_map(|n| 2 * n),
        1 => (1_u32..9).prop_map(|n| 60 * n),
        1 => prop::sample::select(&[256, 257, 1 << 30, (1 << 31) - 2, (1 << 31) - 1, 1 << 31, u32::MAX][..]),
        1 => any::<u32>(),
    ]
}

fn wanted(numbers: u16) -> impl Strategy<Value = Wanted> + Clone {
    let thresholds =
        prop_oneof![3 => Just((0, 0)), 2 => (0_u32..6, 0_u32..6), 1 => (0_u32..1, 1_u32..9)];
    let parts = (0..numbers, weight(), thresholds);
    parts
        .prop_map(|(number, weight, (lower, upper))| Wanted { number, weight, lower, upper })
        .boxed()
}

fn op(algorithm: Algorithm, numbers: u16) -> impl Strategy<Value = Op> {
    let wanted = wanted(numbers);
    let most = usize::from(numbers) + 1;
    let others = prop_oneof![3 => Just(algorithm), 1 => prop::sample::select(Algorithm::ALL)];
    let tried = prop_oneof![
        4 => Just(Vec::new()),
        1 => prop::collection::vec(0..numbers, 0..4),
        1 => Just((0..numbers).collect()),
    ];
    prop_oneof![
        8 => wanted.clone().prop_map(Op::Add),
        4 => wanted.clone().prop_map(Op::Edit),
        2 => (0..numbers, any::<u8>()).prop_map(|(n, micros)| Op::Suspend(n, micros)),
        2 => any::<u8>().prop_map(Op::Wait),
        4 => (0..numbers).prop_map(Op::Remove),
        1 => (wanted.clone(), 0_u8..100).prop_map(|(wanted, times)| Op::Churn(wanted, times)),
        1 => prop::collection::vec(wanted, 0..most).prop_map(Op::Set),
        40 => (any::<u32>(), any::<u8>(), tried).prop_map(|(c, d, tried)| Op::Pick(c, d, tried)),
        12 => any::<usize>().prop_map(Op::Activate),
        4 => any::<usize>().prop_map(Op::Deactivate),
        10 => any::<usize>().prop_map(Op::Release),
        1 => (others, flags()).prop_map(|(other, flags)| Op::Switch(other, flags)),
    ]
}

/// Operations on few backends, or on so many that structures have several levels.
fn ops(algorithm: Algorithm) -> impl Strategy<Value = Vec<Op>> {
    let numbers = prop_oneof![4 => 1_u16..12, 2 => 12_u16..80, 1 => 250_u16..300];
    numbers.prop_flat_map(move |numbers| {
        let first = (0..numbers).prop_flat_map(move |count| {
            (0..=count)
                .map(|number| wanted(1).prop_map(move |w| Wanted { number, ..w }))
                .collect::<Vec<_>>()
        });
        let rest = prop::collection::vec(op(algorithm, numbers), 1..150);
        (first, rest).prop_map(|(first, mut ops)| {
            ops.insert(0, Op::Set(first));
            ops
        })
    })
}

fn agrees(algorithm: Algorithm, cases: u32) {
    let config = ProptestConfig { cases, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&(flags(), ops(algorithm)), |(flags, ops)| {
        let mut both = Both::new(algorithm, flags);
        for op in &ops {
            both.step(op);
        }
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{algorithm}: {error}"));
}

/// Many rounds of change make the list close its gaps; order, counts and what the algorithm remembers survive it.
fn survives_churn(algorithm: Algorithm) {
    let mut both = Both::new(algorithm, KERNEL_START);
    for round in 0..600_u16 {
        let one = Wanted { number: round % 40, weight: u32::from(round % 7), lower: 0, upper: 0 };
        both.step(&Op::Churn(one, (round % 3) as u8 * 2));
        both.step(&Op::Pick(round.into(), round.to_le_bytes()[0], Vec::new()));
        both.step(&Op::Activate(round.into()));
        both.step(&Op::Release(usize::from(round) * 7));
    }
}

macro_rules! suite {
    ($($kernel:ident $name:ident $rule:ident;)*) => {
        $(
            mod $kernel {
                use super::*;

                #[test]
                fn agrees_with_the_naive_model() {
                    agrees(Algorithm::$name, 100);
                }

                #[test]
                fn survives_a_churning_list() {
                    survives_churn(Algorithm::$name);
                }
            }
        )*

        #[test]
        fn every_algorithm_is_tested_under_its_name() {
            let tested = [$((stringify!($kernel), Algorithm::$name)),*];
            assert_eq!(tested.len(), Algorithm::ALL.len());
            let unknown = "lb".parse::<Algorithm>().expect_err("no such algorithm").to_string();
            for (name, algorithm) in tested {
                assert!(Algorithm::ALL.contains(&algorithm));
                assert_eq!(name.parse(), Ok(algorithm));
                assert!(unknown.contains(&format!(" {name}")), "{name}");
            }
        }
    };
}

each_algorithm!(suite);

/// A pick's expectation and other steps, by words; backends are letters, and a capital is a connection that is held.
///
/// `A` `a`: picked, and held or released at once. `A*9`: nine times. `-`: none; `-AB`: none but for those tried. `+A` `_A`: the latest
/// becomes active, or inactive again. `!A`: released. `A=3:1/2`: added or edited, with weight and thresholds. `>A`: removed.
fn play(algorithm: Algorithm, backends: &str, script: &str) {
    const FLOW: Flow = Flow::new(
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(192, 0, 2, 7), 40_000)),
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::new(10, 96, 0, 10), 80)),
    );
    let mut both = Both::new(algorithm, KERNEL_START);
    let mut held: Vec<(char, bool)> = Vec::new();
    let number = |name: char| name.to_ascii_uppercase() as u16 - 64;
    for word in backends.split_whitespace().chain(script.split_whitespace()) {
        let case = format!("{algorithm} [{backends}] [{script}] at {word}");
        let mut chars = word.chars();
        let first = chars.next().expect("a word");
        let rest = chars.as_str();
        let last = word.chars().last().expect("a word");
        let latest = |active: Option<bool>| {
            let is = |conn: &(char, bool)| {
                conn.0 == last && active.is_none_or(|active| conn.1 == active)
            };
            held.iter().rposition(is).unwrap_or_else(|| panic!("{case}: not held"))
        };
        match (first, rest) {
            ('-', tried) => {
                let tried: Vec<u16> = tried.chars().map(number).collect();
                assert_eq!(both.pick(&FLOW, &tried), None, "{case}");
            }
            ('+' | '_', _) => {
                let at = latest(Some(first == '_'));
                held[at].1 = first == '+';
                both.step(&if first == '+' { Op::Activate(at) } else { Op::Deactivate(at) });
            }
            ('!', _) => {
                let at = latest(None);
                both.step(&Op::Release(at));
                held.swap_remove(at);
            }
            ('>', _) => both.step(&Op::Remove(number(last))),
            (name, set) if set.starts_with('=') => {
                let (weight, thresholds) =
                    set[1..].split_once(':').unwrap_or_else(|| (&set[1..], "0/0"));
                let (lower, upper) = thresholds.split_once('/').expect("two thresholds");
                let [weight, lower, upper] = [weight, lower, upper]
                    .map(|text| text.parse().unwrap_or_else(|_| panic!("{case}")));
                both.step(&Op::Add(Wanted { number: number(name), weight, lower, upper }));
            }
            (name, times) => {
                let times =
                    times.strip_prefix('*').map_or(1, |times| times.parse().expect("a number"));
                for time in 0..times {
                    let picked = both.pick(&FLOW, &[]);
                    assert_eq!(picked, Some(addr(number(name))), "{case}, pick {time}");
                    held.push((name, false));
                    if name.is_ascii_lowercase() {
                        both.step(&Op::Release(held.len() - 1));
                        held.pop();
                    }
                }
            }
        }
    }
}

/// Linux IPVS, 6.1. The last one added is the head of the list.
#[test]
fn worked_examples() {
    use Algorithm::{
        LeastConnection as Lc, NeverQueue as Nq, RoundRobin as Rr, ShortestExpectedDelay as Sed,
        WeightedLeastConnection as Wlc, WeightedRoundRobin as Wrr,
    };
    let rows: &[(Algorithm, &str, &str)] = &[
        (Rr, "A=1 B=9 C=1", "c b a c b a"),
        // What is added is picked after the wrap; behind a removed mark goes on what followed it.
        (Rr, "A=1 B=1 C=1", "c b D=1 a d c b a"),
        (Rr, "A=1 B=1 C=1", "c b >B a c a"),
        (Rr, "A=1 B=1 C=1", "c >C b a b"),
        (Rr, "A=1 B=1 C=1", "c b >B B=1 a b c a"),
        (Rr, "A=1 B=0 C=1", "c a c B=1 b B=0 a C=0 a a A=0 - C=1 c"),
        (Rr, "A=1:0/1 B=1:0/1", "B A - !B b b !A a b"),
        // The bar stays at 1 while B and C come, so that the first round is the last of a cycle.
        (Wrr, "A=4 B=3 C=2", "c b a a b a c b a c b a a b a c b a"),
        (Wrr, "A=6 B=4 C=2", "c b a a b a c b a a"),
        (Wrr, "A=2 B=2", "b a b a"),
        (Wrr, "A=0 B=0", "- - B=3 b b"),
        // A change puts the walk back to the head and keeps the bar.
        (Wrr, "A=4 B=3 C=2", "c b a a b A=4 b a c b a"),
        (Wrr, "A=4 B=3 C=2", "c b a a b D=1 b a c b a d c b a a"),
        (Wrr, "A=4 B=3 C=2", "c b a a b >A b c b c b b"),
        // With another step the bar becomes the one of its own that is nearest by the kernel's rounding.
        (Wrr, "A=4 B=2 C=1", "c b a a a b >C a b a a b a"),
        // Nobody, from the head: the bar goes to the top.
        (Wrr, "A=4:0/1 B=3:0/1 C=2:0/1", "c b a a B C=2:0/1 -AC !B a b a c b a"),
        // From amid the list above the lowest bar: as well.
        (Wrr, "A=4:0/1 B=3:0/1 C=2:0/1", "c b a a B -AC !B a b a c b a"),
        // At the lowest bar: nothing moves.
        (Wrr, "A=4:0/1 B=3:0/1 C=2:0/1", "C B -A !C !B a a b a c b a"),
        (Wrr, "A=6:0/1 B=4:0/1 C=2:0/1", "C B -A !C !B a a b a c b a"),
        // Bars that only the overloaded reach are passed.
        (Wrr, "A=2147483647:0/1 B=1", "b A b b !A a a a"),
        (Wrr, "A=2147483647:0/1 B=2147483646:0/1 C=1", "c B A c c !B b !A a a b a b a"),
        // An active connection is as heavy as 256 others; the first of equals is picked.
        (Lc, "A=1 B=9", "B +B A*256 B A B _B B*255 A"),
        (Lc, "A=9 B=1", "B A B A !B !B B*2"),
        (Wlc, "A=2 B=1", "B +B A*512 B A*2 B"),
        (Wlc, "A=1 B=100 C=0", "B A B*99 B A"),
        (Wlc, "A=3 B=2 C=1", "C B A A B A C B A A B A"),
        // Whatever was never active does not count.
        (Sed, "A=1 B=3 C=3", "C*9"),
        (Sed, "A=1 B=3 C=3", "C +C B +B C +C B +B C +C B +B A +A C"),
        (Nq, "A=9 B=1 C=0", "B*9"),
        (Nq, "A=9 B=1", "B +B A +A A +A A !B b B +B _A _A A +A A"),
        (Nq, "A=1 B=9", "B +B A +A B"),
        // Overload ends below three quarters of the upper threshold, or below the lower one.
        (Lc, "A=1:0/4", "A*4 - !A - !A A"),
        (Lc, "A=1:0/5", "A*5 - !A - !A A"),
        (Lc, "A=1:2/4", "A*4 - !A - !A - !A a a A*3 -"),
        (Lc, "A=1:4/4", "A*4 - !A A -"),
        (Lc, "A=1:9/4", "A*4 - !A A -"),
        (Lc, "A=1:0/1", "A +A - _A - !A A"),
        // An edit ends it where the upper threshold is raised or lifted, and begins none.
        (Lc, "A=1:0/4", "A*4 - A=1:0/4 - A=1:0/3 - A=1:0/4 A - A=1 A*9"),
        (Lc, "A=1:0/4", "A*4 A=1:3/4 - !A - !A A"),
        (Lc, "A=1", "A*4 A=1:0/2 A -"),
        // So does coming back; the counts have gone on.
        (Lc, "A=1:0/4", "A*4 >A - A=1:0/4 - >A A=1:0/5 A -"),
        (Lc, "A=1:0/2 B=1", "B A B A B >A !A !A A=1:0/2 A*2 B"),
    ];
    for (algorithm, backends, script) in rows {
        play(*algorithm, backends, script);
    }
}

#[test]
fn nobody_usable_is_none_for_every_algorithm() {
    let some = flow(7, 7);
    for (&algorithm, flags) in Algorithm::ALL.iter().flat_map(|one| FLAGS.map(|flags| (one, flags)))
    {
        for count in [0, 1, 2, 17] {
            let case = format!("{algorithm} {flags:?} {count}");
            let mut both = Both::new(algorithm, flags);
            let set = |both: &mut Both, weight, upper| {
                let all = (0..count).map(|number| Wanted { number, weight, lower: 0, upper });
                both.step(&Op::Set(all.collect()));
            };
            assert_eq!(both.pick(&some, &[]), None, "{case}: no backends yet");
            set(&mut both, 0, 0);
            assert_eq!(both.pick(&some, &[]), None, "{case}: weight 0");
            set(&mut both, 3, 1);
            let all: Vec<u16> = (0..count).collect();
            assert_eq!(both.pick(&some, &all), None, "{case}: all tried");
            let busy = (0..300_u32)
                .filter(|n| both.pick(&flow(n * 0x0101, n.to_le_bytes()[0]), &[]).is_some());
            assert_eq!(busy.count(), usize::from(count), "{case}");
            assert_eq!(both.pick(&some, &[]), None, "{case}: all overloaded");
            both.step(&Op::Set(Vec::new()));
            assert_eq!(both.pick(&some, &[]), None, "{case}: no backends any more");
        }
    }
}

fn client(ip: u32, port: u16) -> Flow {
    Flow::new(SocketAddr::from((ip.to_be_bytes(), port)), addr(0))
}

/// The slot of a number in the rings of `sh` and `dh`.
fn slot(number: u32) -> usize {
    usize::try_from(u64::from(number) * 0x61c8_8647 % (1 << 32) / (1 << 24)).expect("8 bits")
}

/// Slots of known addresses, and of address and port 40000 with `sh-port`.
#[test]
fn addresses_are_hashed_to_256_slots() {
    // One backend a slot: the head has slot 0.
    let both = |algorithm, flags| {
        let mut both = Both::new(algorithm, flags);
        both.step(&Op::Set(
            (0..256).map(|number| Wanted { number, weight: 1, lower: 0, upper: 0 }).collect(),
        ));
        both
    };
    for (ip, plain, with_port) in [
        ("10.0.0.1", 39, 203),
        ("10.0.0.2", 137, 45),
        ("192.0.2.7", 125, 33),
        ("203.0.113.200", 52, 216),
        ("255.255.255.255", 158, 66),
        ("2001:db8::1", 63, 226),
        ("fd00:1:2:3:4:5:6:7", 43, 206),
    ] {
        let end = SocketAddr::from((ip.parse::<IpAddr>().expect("an address"), 40_000));
        for flags in FLAGS {
            let expected = if flags.port { with_port } else { plain };
            let found = both(Algorithm::SourceHashing, flags).pick(&Flow::new(end, addr(0)), &[]);
            assert_eq!(found, Some(addr(255 - expected)), "{ip} {flags:?}");
            let found =
                both(Algorithm::DestinationHashing, flags).pick(&Flow::new(addr(0), end), &[]);
            assert_eq!(found, Some(addr(255 - plain)), "{ip} {flags:?}");
        }
    }
}

/// Who has which slot: weights as added, and the slots from 0 on as letters with their numbers, the last for ever.
#[test]
fn rings_are_dealt_from_the_head() {
    use Algorithm::{DestinationHashing as Dh, SourceHashing as Sh};
    let rows: &[(Algorithm, &[u32], &str)] = &[
        (Sh, &[2, 0, 3], "C3 B1 A2 C3 B1 A2 C3 B1 A2"),
        (Sh, &[1, 600], "B256"),
        (Sh, &[600, 1, 2], "C2 B1 A253"),
        (Sh, &[4, 256], "B256"),
        (Sh, &[4, 255], "B255 A1"),
        (Sh, &[4, 250], "B250 A4 B2"),
        (Dh, &[5, 0, 600], "C1 B1 A1 C1 B1 A1"),
    ];
    let clients: BTreeMap<usize, u32> = (0..4000).map(|ip| (slot(ip), ip)).collect();
    assert_eq!(clients.len(), 256);
    for (algorithm, weights, expected) in rows {
        let ring: Vec<u16> = expected
            .split(' ')
            .flat_map(|part| {
                let (name, count) = part.split_at(1);
                let number = u16::from(name.as_bytes()[0] - b'A');
                std::iter::repeat_n(number, count.parse().expect("a number"))
            })
            .collect();
        for fallback in [false, true] {
            let mut both = Both::new(*algorithm, Flags { fallback, ..Flags::KERNEL });
            for (number, &weight) in (0..).zip(*weights) {
                both.step(&Op::Add(Wanted { number, weight, lower: 0, upper: 0 }));
            }
            let usable =
                |slot: usize| Some(ring[slot]).filter(|&number| weights[usize::from(number)] > 0);
            for (at, &ip) in clients.iter().take_while(|(at, _)| 2 * **at + 3 < ring.len()) {
                let flow = match algorithm {
                    Sh => client(ip, 1),
                    _ => Flow::new(addr(0), SocketAddr::from((ip.to_be_bytes(), 80))),
                };
                // From the double on, not from the next.
                let mut later = (2 * at..2 * at + 3).filter(|_| fallback);
                let found = usable(*at).or_else(|| later.find_map(usable)).map(addr);
                assert_eq!(
                    both.pick(&flow, &[]),
                    found,
                    "{algorithm} {weights:?}, slot {at}, {fallback}"
                );
            }
        }
    }
}

/// An address for each of the 4093 slots.
fn maglev_clients() -> Vec<u32> {
    let mut clients: BTreeMap<u64, u32> = BTreeMap::new();
    let mut ips = 0_u32..;
    while clients.len() < 4093 {
        let ip = ips.next().expect("addresses for every slot");
        clients.entry(sip(2_654_435_761, ip.into()) % 4093).or_insert(ip);
    }
    clients.into_values().collect()
}

/// How many of the 4093 slots each has: last weights as added.
#[test]
fn maglev_slots_by_weight() {
    let rows: &[(&[u32], &[usize])] = &[
        (&[1], &[4093]),
        (&[1, 1], &[2046, 2047]),
        (&[5, 0], &[4093, 0]),
        (&[0, 0], &[0, 0]),
        (&[1, 3], &[1023, 3070]),
        (&[2, 6], &[1023, 3070]),
        (&[3, 1], &[3069, 1024]),
        (&[1, 63], &[63, 4030]),
        // Seven bits are cut to six, one turn at the least.
        (&[1, 64], &[124, 3969]),
        (&[1, 127], &[63, 4030]),
        (&[3, 127], &[63, 4030]),
        (&[4, 127], &[124, 3969]),
        (&[1, 0x7fff_ffff], &[63, 4030]),
        (&[1, u32::MAX], &[63, 4030]),
    ];
    let clients = maglev_clients();
    for (weights, expected) in rows {
        let mut both = Both::new(Algorithm::MaglevHashing, FLAGS[0]);
        let set = |weight, number| Op::Add(Wanted { number, weight, lower: 0, upper: 0 });
        for (number, &weight) in (0..).zip(*weights) {
            both.step(&set(weight, number));
        }
        let picks = |both: &mut Both| -> Vec<Option<SocketAddr>> {
            clients.iter().map(|&ip| both.pick(&client(ip, 1), &[])).collect()
        };
        let before = picks(&mut both);
        let shares: Vec<usize> = (0..)
            .zip(*weights)
            .map(|(number, _)| before.iter().filter(|found| **found == Some(addr(number))).count())
            .collect();
        assert_eq!(&shares, expected, "{weights:?}");
        // Quiesced, it keeps its slots, and nobody else's client moves.
        both.step(&set(0, 0));
        let without = |found: &Option<SocketAddr>| found.filter(|found| *found != addr(0));
        assert_eq!(picks(&mut both), before.iter().map(without).collect::<Vec<_>>(), "{weights:?}");
    }
}

/// More backends than slots: those behind get none.
#[test]
fn more_backends_than_slots() {
    let clients = maglev_clients();
    for (algorithm, count, slots) in [
        (Algorithm::SourceHashing, 300, 256),
        (Algorithm::DestinationHashing, 300, 256),
        (Algorithm::MaglevHashing, 4500, 4093),
    ] {
        let mut both = Both::new(Algorithm::RoundRobin, KERNEL_START);
        both.step(&Op::Set(
            (0..count).map(|number| Wanted { number, weight: 1, lower: 0, upper: 0 }).collect(),
        ));
        for flags in FLAGS {
            both.step(&Op::Switch(algorithm, flags));
            for &ip in &clients {
                let flow = Flow::new(client(ip, 1).client, client(ip, 1).client);
                let found = both.pick(&flow, &[]).expect("all are usable");
                assert!(
                    (count - slots..count).any(|number| addr(number) == found),
                    "{algorithm} {found}"
                );
            }
        }
    }
}
