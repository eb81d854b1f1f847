//! Rules as the kernel has them: what a packet's header has to be, then matches in their order, then a target.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use svcplane::ipnet::IpNet;
use svcplane::net::Protocol;

/// A condition, or its opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Either<T> {
    pub(super) is: bool,
    pub(super) of: T,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) source: Option<Either<IpNet>>,
    pub(super) destination: Option<Either<IpNet>>,
    pub(super) interface: Option<Either<Interface>>,
    pub(super) protocol: Option<Protocol>,
    pub(super) matches: Vec<Match>,
    /// Without one it only counts.
    pub(super) target: Option<Target>,
}

/// A name, or what a name begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    Named(String),
    Beginning(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Comment(String),
    /// Of the transport, to these ports.
    Transport(Protocol, Option<RangeInclusive<u16>>),
    SourceIsLocal,
    DestinationIsLocal,
    State(Either<BTreeSet<State>>),
    Mark(Either<Masked>),
    /// Puts the source into a list. Always true.
    Remember(String),
    /// Whether the source was put into a list within some seconds.
    Remembered {
        list: String,
        seconds: u32,
        reap: bool,
    },
    /// How many of [`WHOLE`](super::walk::WHOLE) packets.
    Chance(u32),
}

/// What connection tracking says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Invalid,
    New,
    Related,
    Established,
    /// Its destination was translated.
    Dnat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) value: u32,
    pub(super) mask: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Return,
    Accept,
    Drop,
    Reject,
    Jump(String),
    Goto(String),
    /// Clears the mask's bits of the mark, and flips those of the value.
    Mark(Masked),
    Translate(SocketAddr),
    Masquerade,
}

/// As `iptables-save` prints it, each part behind a blank.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |is: bool| if is { "" } else { " !" };
        for (option, net) in [("-s", &self.source), ("-d", &self.destination)] {
            if let Some(Either { is, of }) = net {
                write!(f, "{} {option} {of}", not(*is))?;
            }
        }
        match &self.interface {
            Some(Either { is, of: Interface::Named(name) }) => write!(f, "{} -i {name}", not(*is))?,
            Some(Either { is, of: Interface::Beginning(name) }) => {
                write!(f, "{} -i {name}+", not(*is))?;
            }
            None => {}
        }
        if let Some(protocol) = self.protocol {
            write!(f, " -p {}", protocol.as_lower_str())?;
        }
        for one in &self.matches {
            match one {
                Match::Comment(text) => write!(f, " -m comment --comment \"{text}\"")?,
                Match::Transport(protocol, ports) => {
                    write!(f, " -m {}", protocol.as_lower_str())?;
                    match ports.as_ref().map(|ports| (ports.start(), ports.end())) {
                        Some((first, last)) if first == last => write!(f, " --dport {first}")?,
                        Some((first, last)) => write!(f, " --dport {first}:{last}")?,
                        None => {}
                    }
                }
                Match::SourceIsLocal => write!(f, " -m addrtype --src-type LOCAL")?,
                Match::DestinationIsLocal => write!(f, " -m addrtype --dst-type LOCAL")?,
                Match::State(Either { is, of }) => {
                    let states: Vec<String> =
                        of.iter().map(|state| format!("{state:?}").to_uppercase()).collect();
                    write!(f, " -m conntrack{} --ctstate {}", not(*is), states.join(","))?;
                }
                Match::Mark(Either { is, of: Masked { value, mask } }) => {
                    write!(f, " -m mark{} --mark {value:#x}/{mask:#x}", not(*is))?;
                }
                Match::Remember(list) => {
                    write!(f, " -m recent --set --name {list}")?;
                }
                Match::Remembered { list, seconds, reap } => {
                    let reap = if *reap { " --reap" } else { "" };
                    write!(f, " -m recent --rcheck --seconds {seconds}{reap} --name {list}")?;
                }
                Match::Chance(of) => {
                    let part = f64::from(*of) / f64::from(super::walk::WHOLE);
                    write!(f, " -m statistic --mode random --probability {part:.11}")?;
                }
            }
        }
        match &self.target {
            None => Ok(()),
            Some(Target::Return) => write!(f, " -j RETURN"),
            Some(Target::Accept) => write!(f, " -j ACCEPT"),
            Some(Target::Drop) => write!(f, " -j DROP"),
            Some(Target::Reject) => write!(f, " -j REJECT"),
            Some(Target::Jump(chain)) => write!(f, " -j {chain}"),
            Some(Target::Goto(chain)) => write!(f, " -g {chain}"),
            Some(Target::Mark(Masked { value, mask })) => {
                write!(f, " -j MARK --set-xmark {value:#x}/{mask:#x}")
            }
            Some(Target::Translate(to)) => write!(f, " -j DNAT --to-destination {to}"),
            Some(Target::Masquerade) => write!(f, " -j MASQUERADE --random-fully"),
        }
    }
}

impl Rule {
    /// The chain to which it leads.
    pub(super) fn chain(&self) -> Option<&str> {
        match &self.target {
            Some(Target::Jump(chain) | Target::Goto(chain)) => Some(chain),
            _ => None,
        }
    }

    /// The list that it needs.
    pub(super) fn list(&self) -> Option<&str> {
        self.matches.iter().find_map(|one| match one {
            Match::Remember(list) | Match::Remembered { list, .. } => Some(&**list),
            _ => None,
        })
    }
}
