//! What a script of nft can say, as far as a proxy has any use for it.
//!
//! Source: nft(8).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use svcplane::ipnet::IpNet;
use svcplane::net::{IpFamily, Protocol};

/// One command; those of a `table` block are as if each were written by itself.
#[derive(Clone, Debug)]
pub(super) enum Command {
    AddTable(Table),
    DeleteTable(Table),
    AddChain(Table, String, Option<Base>),
    FlushChain(Table, String),
    DeleteChain(Table, String),
    AddSet(Table, String, Spec),
    DeleteSet(Table, String, Kind),
    AddRule(Table, String, Rule),
    AddElement(Table, String, Element),
    DeleteElement(Table, String, Element),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    pub(super) family: IpFamily,
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Set,
    Map,
}

/// Where packets enter: its type, hook and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) of: String,
    pub(super) hook: String,
    pub(super) priority: i32,
}

/// The type of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) kind: Kind,
    pub(super) key: Vec<Field>,
    pub(super) data: Data,
    pub(super) interval: bool,
    pub(super) dynamic: bool,
    /// In seconds.
    pub(super) timeout: Option<u64>,
    pub(super) size: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    None,
    Verdict,
    Fields(Vec<Field>),
}

/// An element as it is written: its type says what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<String>,
    /// Empty for none.
    pub(super) data: Vec<String>,
}

/// What packets are looked at for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Saddr,
    Daddr,
    Transport,
    Port,
    /// That of one transport, which it also has to be.
    PortOf(Protocol),
    Mark,
    Priority,
    Random(u32),
    /// Of the source address.
    Hash(u32),
}

/// A rule is its text; that two are one says that.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) text: String,
    pub(super) statements: Vec<Statement>,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rule {}

#[derive(Clone, Debug)]
pub(super) enum Statement {
    /// `ct state new`
    IsNew,
    /// `ct status dnat`; `! dnat`
    IsTranslated(bool),
    /// `fib saddr type local`, `fib daddr type local`
    IsLocal(Field),
    /// `iifname`: the name, whether only its beginning, whether it is.
    Interface(String, bool, bool),
    /// Whether it is, and what.
    Matches(Vec<Field>, bool, Among),
    /// A bit of the mark, and whether it is set.
    Mark(u32, bool),
    /// And, then or.
    SetMark(u32, u32),
    SetPriority(Vec<Field>, To),
    Verdict(Verdict),
    Lookup(Vec<Field>, To),
    Update(String, Vec<Field>, Vec<Field>),
    Delete(String, Vec<Field>, Vec<Field>),
    TranslateTo(SocketAddr),
    Translate(Vec<Field>, To),
    Masquerade,
}

#[derive(Clone, Debug)]
pub(super) enum Among {
    Named(String),
    Listed(Vec<Vec<Value>>),
}

#[derive(Clone, Debug)]
pub(super) enum To {
    Named(String),
    Listed(BTreeMap<Vec<Value>, Led>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Reject,
    Return,
    Jump(String),
    Goto(String),
}

/// What a text means as a field's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Net(IpNet),
    Transport(Protocol),
    Number(u64),
}

impl Field {
    /// The value that a text stands for; a range of addresses only where ranges may be.
    pub(super) fn value(
        &self,
        family: IpFamily,
        text: &str,
        ranges: bool,
    ) -> Result<Value, String> {
        let bad = || format!("{text:?} is no value of {self:?}");
        match self {
            Self::Saddr | Self::Daddr => {
                let net = match text.parse::<IpAddr>() {
                    Ok(ip) => IpNet::from(ip),
                    Err(_) if ranges => text.parse().map_err(|_| bad())?,
                    Err(_) => return Err(bad()),
                };
                let fits = IpFamily::of(net.addr()) == family && net.trunc() == net;
                if fits { Ok(Value::Net(net)) } else { Err(bad()) }
            }
            Self::Transport => match text {
                "tcp" => Ok(Value::Transport(Protocol::Tcp)),
                "udp" => Ok(Value::Transport(Protocol::Udp)),
                "sctp" => Ok(Value::Transport(Protocol::Sctp)),
                _ => Err(bad()),
            },
            Self::Port | Self::PortOf(_) => {
                text.parse::<u16>().map(|n| Value::Number(n.into())).map_err(|_| bad())
            }
            _ => number(text).map(|n| Value::Number(n.into())).ok_or_else(bad),
        }
    }

    /// Whether a value of one may be where one of the other is expected.
    pub(super) fn fits(&self, other: &Self) -> bool {
        let class = |field: &Self| match field {
            Self::Saddr | Self::Daddr => 0,
            Self::Transport => 1,
            Self::Port | Self::PortOf(_) => 2,
            Self::Mark => 3,
            Self::Priority => 4,
            Self::Random(_) | Self::Hash(_) => 5,
        };
        class(self) == class(other)
    }
}

pub(super) fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Led {
    Nothing,
    Verdict(Verdict),
    Values(Vec<Value>),
}

/// Values of fields, one a word.
pub(super) fn values(
    fields: &[Field],
    family: IpFamily,
    words: &[String],
    ranges: bool,
) -> Result<Vec<Value>, String> {
    if fields.len() != words.len() {
        return Err(format!("{words:?} for {fields:?}"));
    }
    fields.iter().zip(words).map(|(field, word)| field.value(family, word, ranges)).collect()
}

pub(super) fn data(of: &Data, family: IpFamily, words: &[String]) -> Result<Led, String> {
    match of {
        Data::None if words.is_empty() => Ok(Led::Nothing),
        Data::None => Err(format!("{words:?} in a set")),
        Data::Fields(fields) => values(fields, family, words, false).map(Led::Values),
        Data::Verdict => Ok(Led::Verdict(match words {
            [word] if word == "accept" => Verdict::Accept,
            [word] if word == "drop" => Verdict::Drop,
            [goto, chain] if goto == "goto" => Verdict::Goto(chain.clone()),
            [jump, chain] if jump == "jump" => Verdict::Jump(chain.clone()),
            // `reject` is a statement.
            _ => return Err(format!("{words:?} is no verdict")),
        })),
    }
}
