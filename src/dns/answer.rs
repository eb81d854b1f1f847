//! Answers, as views of the zone.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::entry::{Entry, Kind, Pointer, Target};
use super::lookup::Place;
use super::zone::{ReverseZone, Zone, srv};
use super::{Code, Name, Record, RecordData, RecordType, SCHEMA_TTL, SCHEMA_VERSION};
use crate::draw::Draw;

/// How many aliases are followed.
const MAX_ALIASES: usize = 8;
/// The header of a message.
const HEADER: usize = 12;
/// What a record takes beside its name and what it says: type, class, time to live, length.
const RECORD: usize = 10;
/// A name that is the question's, compressed.
const POINTER: usize = 2;
/// Transfers of a whole zone.
const TRANSFERS: [RecordType; 2] = [RecordType::Other(251), RecordType::Other(252)];

/// What a zone answers to one question. Its records are made while they are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    zone: &'a Zone,
    question: Name<'a>,
    code: Code,
    /// The reverse zone that it is from, if it is.
    reverse: Option<&'a ReverseZone>,
    aliases: [Option<&'a Entry>; MAX_ALIASES],
    alias_count: usize,
    found: Found<'a>,
    /// Which of those found comes first.
    first: usize,
    /// How many records are told of each section.
    answers: usize,
    authority: usize,
    additional: usize,
    truncated: bool,
}

/// The records of the name at the end of all aliases.
#[derive(Clone, Copy, Debug)]
enum Found<'a> {
    None,
    V4(&'a [Ipv4Addr]),
    V6(&'a [Ipv6Addr]),
    Servers(&'a [IpAddr]),
    Pod(IpAddr),
    Cname(Name<'a>),
    Srv(&'a Entry, &'a [Target], u16),
    Ptr(&'a [Pointer]),
    Ns,
    Soa,
    Txt,
}

impl Zone {
    /// What there is of a kind under a name.
    ///
    /// Of several records another one comes first each turn, the others behind it in their order. `turn` is a count of questions,
    /// or any number: it is stirred before use, so that each record comes first equally often in the long run whatever else is
    /// asked in between. The same turn has the same order.
    ///
    /// A name outside of the zone and its reverse zones is refused, as is the transfer of the zone: [`records`](Self::records)
    /// has all of it.
    pub fn answer<'a>(&'a self, name: Name<'a>, kind: RecordType, turn: u64) -> Answer<'a> {
        let mut answer = Answer {
            zone: self,
            question: name,
            code: Code::NoError,
            reverse: None,
            aliases: [None; MAX_ALIASES],
            alias_count: 0,
            found: Found::None,
            first: 0,
            answers: 0,
            authority: 0,
            additional: 0,
            truncated: false,
        };
        if TRANSFERS.contains(&kind) {
            answer.code = Code::Refused;
            return answer;
        }
        let place = answer.follow(self.place(name), kind);
        answer.settle(place, kind, turn);
        answer
    }
}

impl<'a> Answer<'a> {
    /// Follows aliases that are in the way; what the last one leads to.
    fn follow(&mut self, mut place: Place<'a>, kind: RecordType) -> Place<'a> {
        if !matches!(kind, RecordType::A | RecordType::Aaaa) {
            return place;
        }
        while let Place::Service(entry) = place {
            let Kind::External(Some(target)) = &entry.kind else { break };
            let followed = &self.aliases[..self.alias_count];
            let again = followed.iter().flatten().any(|known| core::ptr::eq(*known, entry));
            if again || self.alias_count == MAX_ALIASES {
                // In a circle, or too far: what was found on the way is the answer.
                return Place::Elsewhere;
            }
            self.aliases[self.alias_count] = Some(entry);
            self.alias_count += 1;
            place = self.zone.place(Name::joined(&[], target));
        }
        place
    }

    fn settle(&mut self, place: Place<'a>, kind: RecordType, turn: u64) {
        let (code, reverse, found) = self.zone.found(place, kind);
        (self.reverse, self.found) = (reverse, found);
        self.code = match code {
            // What an alias leads to outside is for the client to ask.
            Code::Refused if self.alias_count > 0 => Code::NoError,
            Code::NxDomain if !self.zone.synced() => Code::ServFail,
            code => code,
        };
        let count = found.count();
        self.answers = self.alias_count + count;
        if count > 1 {
            let first = Draw::new(turn).below(count as u64);
            self.first = usize::try_from(first).unwrap_or(0); // less than the count
        }
        let ours = code != Code::Refused && self.code != Code::ServFail;
        self.authority = usize::from(ours && count == 0);
        self.additional = usize::MAX;
    }

    /// What becomes of the question.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Whether it is the word of whoever has the say over the name.
    pub const fn is_authoritative(&self) -> bool {
        matches!(self.code, Code::NoError | Code::NxDomain)
    }

    /// Whether records were left out by [`fit`](Self::fit) that the client has to ask for again, over TCP.
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The answer section: aliases, then what was asked for.
    pub fn answers(&self) -> impl ExactSizeIterator<Item = Record<'a>> {
        let answer = *self;
        (0..answer.answers).map(move |place| answer.at(place))
    }

    /// The authority section: of an answer without what was asked for, whose word that is.
    pub fn authority(&self) -> impl ExactSizeIterator<Item = Record<'a>> {
        let (zone, reverse) = (self.zone, self.reverse);
        let name = reverse.map_or_else(|| zone.origin(), |reverse| reverse.name.name());
        (0..self.authority).map(move |_| zone.soa(name))
    }

    /// The additional section: the addresses of what SRV and NS records name.
    pub fn additional(&self) -> impl Iterator<Item = Record<'a>> {
        self.all_additional().take(self.additional)
    }

    /// Leaves out records until a message with this answer has at most so many bytes: additional ones first, then, with the message
    /// marked as [truncated](Self::is_truncated), the last ones of the answer.
    ///
    /// The size is that of a message whose names are compressed where they are the question's, and nowhere else: no message is
    /// greater that compresses as much. What else it holds, such as the 11 bytes of an EDNS record, is for the caller to take
    /// off. Over UDP the limit is 512, or what the client's EDNS record says.
    #[must_use]
    pub fn fit(mut self, limit: usize) -> Self {
        let size = |record: Record<'_>| {
            let name = if record.name == self.question { POINTER } else { record.name.wire_len() };
            name + RECORD + record.data.wire_len()
        };
        let question = HEADER + self.question.wire_len() + 4;
        let mut room = limit.saturating_sub(question);
        let mut fitting = |record: &Record<'_>| {
            let rest = room.checked_sub(size(*record));
            room = rest.unwrap_or(0);
            rest.is_some()
        };
        let answers = self.answers().take_while(&mut fitting).count();
        let authority = self.authority().take_while(&mut fitting).count();
        let additional = self.additional().take_while(fitting).count();
        self.truncated |= answers < self.answers;
        (self.answers, self.authority, self.additional) = (answers, authority, additional);
        self
    }

    /// Whose the records at the end of all aliases are.
    fn owner(&self) -> Name<'a> {
        self.alias_count.checked_sub(1).map_or(self.question, |last| self.alias(last).1)
    }

    /// The name of an alias, and the name that it is one of.
    fn alias(&self, place: usize) -> (Name<'a>, Name<'a>) {
        let target = |place: usize| match self.aliases[place].map(|entry| &entry.kind) {
            Some(Kind::External(Some(target))) => Name::joined(&[], target),
            _ => self.question,
        };
        (place.checked_sub(1).map_or(self.question, target), target(place))
    }

    fn at(&self, place: usize) -> Record<'a> {
        let Some(place) = place.checked_sub(self.alias_count) else {
            let (name, target) = self.alias(place);
            return self.zone.record(name, RecordData::Cname(target));
        };
        let turned = self.turned(place);
        let data = match self.found {
            Found::V4(ips) => RecordData::A(ips[turned]),
            Found::V6(ips) => RecordData::Aaaa(ips[turned]),
            Found::Servers(ips) => address(ips[turned]),
            Found::Pod(ip) => address(ip),
            Found::Cname(target) => RecordData::Cname(target),
            Found::Srv(entry, targets, weight) => srv(entry, targets[turned], weight),
            Found::Ptr(pointers) => RecordData::Ptr(pointers[turned].name()),
            Found::Ns => RecordData::Ns(self.zone.apex.name_server.name()),
            Found::Soa | Found::None => self.zone.soa(self.owner()).data,
            Found::Txt => {
                return Record::new(self.owner(), SCHEMA_TTL, RecordData::Txt(SCHEMA_VERSION));
            }
        };
        self.zone.record(self.owner(), data)
    }

    /// Where a record stands in the zone that stands here in this turn.
    fn turned(&self, place: usize) -> usize {
        let (count, place) = (self.found.count(), place + self.first);
        if place < count { place } else { place - count }
    }

    fn all_additional(&self) -> impl Iterator<Item = Record<'a>> {
        let answer = *self;
        let targets = (0..answer.found.targets().min(answer.answers)).filter_map(move |place| {
            let Found::Srv(entry, targets, _) = answer.found else { return None };
            let at = answer.turned(place);
            // The ports of one endpoint stand side by side: its addresses are told with the first of them, also where the turn has
            // begun amid them.
            let host = targets[at].host;
            let begins = at == 0 || targets[at - 1].host != host;
            let told = at < answer.first && targets[answer.first].host == host;
            (place == 0 || begins && !told).then_some((entry, targets[at]))
        });
        let of_srv = targets.flat_map(move |(entry, target)| {
            let host = entry.hosts.get(target.host as usize);
            let (name, v4, v6) = match host {
                Some(host) => (entry.host_name(host), entry.host_v4(host), entry.host_v6(host)),
                None => (entry.name(), &*entry.addresses.v4, &*entry.addresses.v6),
            };
            let v4 = v4.iter().map(|&ip| RecordData::A(ip));
            let v6 = v6.iter().map(|&ip| RecordData::Aaaa(ip));
            v4.chain(v6).map(move |data| answer.zone.record(name, data))
        });
        let servers = match self.found {
            Found::Ns => &*self.zone.config.servers,
            _ => &[],
        };
        let name = self.zone.apex.name_server.name();
        of_srv.chain(servers.iter().map(move |&ip| answer.zone.record(name, address(ip))))
    }
}

impl Found<'_> {
    const fn count(&self) -> usize {
        match self {
            Self::None => 0,
            Self::V4(ips) => ips.len(),
            Self::V6(ips) => ips.len(),
            Self::Servers(ips) => ips.len(),
            Self::Srv(_, targets, _) => targets.len(),
            Self::Ptr(pointers) => pointers.len(),
            Self::Pod(_) | Self::Cname(_) | Self::Ns | Self::Soa | Self::Txt => 1,
        }
    }

    const fn targets(&self) -> usize {
        match self {
            Self::Srv(_, targets, _) => targets.len(),
            _ => 0,
        }
    }
}

impl Zone {
    fn found<'a>(
        &'a self,
        place: Place<'a>,
        kind: RecordType,
    ) -> (Code, Option<&'a ReverseZone>, Found<'a>) {
        let mut reverse = None;
        let found = match (place, kind) {
            (Place::Elsewhere, _) => return (Code::Refused, None, Found::None),
            (Place::Nothing(zone), _) => return (Code::NxDomain, zone, Found::None),
            (Place::Empty(zone), _) => {
                reverse = zone;
                Found::None
            }
            (Place::Apex | Place::ReverseApex(_), kind) => {
                if let Place::ReverseApex(zone) = place {
                    reverse = Some(zone);
                }
                match kind {
                    RecordType::Soa => Found::Soa,
                    RecordType::Ns => Found::Ns,
                    _ => Found::None,
                }
            }
            (Place::Version, RecordType::Txt) => Found::Txt,
            (Place::NameServer, kind) => {
                let v6 = self.config.servers.partition_point(IpAddr::is_ipv4);
                let (v4, v6) = self.config.servers.split_at(v6);
                match kind {
                    RecordType::A => Found::Servers(v4),
                    RecordType::Aaaa => Found::Servers(v6),
                    _ => Found::None,
                }
            }
            (Place::Service(entry), kind) => of_service(entry, kind),
            (Place::Host(entry, host), RecordType::A) => Found::V4(entry.host_v4(host)),
            (Place::Host(entry, host), RecordType::Aaaa) => Found::V6(entry.host_v6(host)),
            (Place::Host(entry, host), RecordType::Srv) => {
                Found::Srv(entry, entry.host_targets(host), host.weight)
            }
            (Place::Port(entry, port), RecordType::Srv) => {
                Found::Srv(entry, &port.found.targets, port.found.weight)
            }
            (Place::Pod(ip), kind) if address(ip).kind() == kind => Found::Pod(ip),
            (Place::Pointers(pointers, zone), kind) => {
                reverse = Some(zone);
                if kind == RecordType::Ptr { Found::Ptr(pointers) } else { Found::None }
            }
            (Place::Version | Place::Host(..) | Place::Port(..) | Place::Pod(_), _) => Found::None,
        };
        (Code::NoError, reverse, found)
    }
}

fn of_service(entry: &Entry, kind: RecordType) -> Found<'_> {
    match (&entry.kind, kind) {
        (Kind::External(Some(target)), RecordType::Cname) => {
            Found::Cname(Name::joined(&[], target))
        }
        (Kind::External(_), _) => Found::None,
        (_, RecordType::A) => Found::V4(&entry.addresses.v4),
        (_, RecordType::Aaaa) => Found::V6(&entry.addresses.v6),
        (_, RecordType::Srv) => Found::Srv(entry, &entry.services.targets, entry.services.weight),
        _ => Found::None,
    }
}

const fn address<'a>(ip: IpAddr) -> RecordData<'a> {
    match ip {
        IpAddr::V4(ip) => RecordData::A(ip),
        IpAddr::V6(ip) => RecordData::Aaaa(ip),
    }
}
