//! The lines of input for `iptables-restore`, with nothing left over. Whatever is not known here is an error, and so is
//! what the tools would take and nobody should write.
//!
//! Source: iptables-restore(8), iptables(8), iptables-extensions(8); the limits are those of iptables 1.8 and Linux'
//! `x_tables.h`, `xt_recent.h` and `xt_comment.h`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use svcplane::ipnet::IpNet;
use svcplane::net::{IpFamily, Protocol};

use super::rule::{Either, Interface, Masked, Match, Rule, State, Target};

type Parsed<T> = Result<T, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Table(String),
    /// Makes a chain, or empties it.
    Chain(String),
    Append(String, Rule),
    Insert(String, Rule),
    Delete(String, Rule),
    DeleteChain(String),
    Commit,
}

/// All lines.
pub(super) fn parse(input: &str, family: IpFamily) -> Parsed<Vec<Line>> {
    let Some(lines) = input.strip_suffix('\n') else {
        return if input.is_empty() { Ok(Vec::new()) } else { Err("no end of line".to_owned()) };
    };
    let parsed = lines.split('\n').map(|line| {
        let parsed = parse_line(line, family);
        parsed.map_err(|error| format!("{error}: {line:?}"))
    });
    parsed.collect()
}

fn parse_line(line: &str, family: IpFamily) -> Parsed<Line> {
    // The tools' buffer.
    if line.len() >= 10_239 {
        return Err("longer than a line may be".to_owned());
    }
    if let Some(table) = line.strip_prefix('*') {
        return Ok(Line::Table(table.to_owned()));
    }
    if line == "COMMIT" {
        return Ok(Line::Commit);
    }
    if let Some(chain) = line.strip_prefix(':') {
        let name = chain.strip_suffix(" - [0:0]").ok_or("a chain without counters")?;
        return Ok(Line::Chain(chain_name(name)?));
    }
    let words = words(line)?;
    let mut words = words.iter();
    let mut plain = |what: &str| match words.next() {
        Some(Word { text, quoted: false }) => Ok(&**text),
        other => Err(format!("expected {what}, not {other:?}")),
    };
    let command = plain("a command")?;
    let chain = chain_name(plain("a chain")?)?;
    let line: fn(String, Rule) -> Line = match command {
        "-A" => Line::Append,
        "-I" => Line::Insert,
        "-D" => Line::Delete,
        "-X" if words.len() == 0 => return Ok(Line::DeleteChain(chain)),
        other => return Err(format!("unknown command {other:?}")),
    };
    let rest: Vec<Word> = words.cloned().collect();
    Ok(line(chain, rule(&rest, family)?))
}

/// Not longer than the kernel takes.
fn chain_name(name: &str) -> Parsed<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_name = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(legal);
    if is_name && name.len() <= 28 {
        Ok(name.to_owned())
    } else {
        Err(format!("{name:?} cannot be a chain"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    text: String,
    quoted: bool,
}

/// Words with one blank between them. Nothing in them has a meaning to a shell or to the tools, but for the quotes
/// around one.
fn words(line: &str) -> Parsed<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let (text, quoted, after) = if let Some(inner) = rest.strip_prefix('"') {
            let (text, after) = inner.split_once('"').ok_or("a quote without an end")?;
            (text, true, after)
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            (&rest[..end], false, &rest[end..])
        };
        let signs = if quoted { " .-/:;" } else { ".-/:,[]!+_@" };
        let legal = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
        if text.is_empty() || !text.chars().all(legal) {
            return Err(format!("{text:?} is no word"));
        }
        words.push(Word { text: text.to_owned(), quoted });
        match after.strip_prefix(' ') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(words),
            None => return Err(format!("{after:?} follows a quote")),
        }
    }
}

/// A rule's arguments, as they are given to the tools one by one.
pub(super) fn arguments(arguments: &[String], family: IpFamily) -> Parsed<Rule> {
    let words = words(&arguments.join(" "))?;
    if words.len() != arguments.len() || words.iter().any(|word| word.quoted) {
        return Err(format!("{arguments:?} are not words"));
    }
    rule(&words, family)
}

fn rule(words: &[Word], family: IpFamily) -> Parsed<Rule> {
    let mut parser = Parser { words, at: 0, family, not: false, rule: Rule::default() };
    while parser.at < words.len() {
        parser.option()?;
    }
    parser.finish()
}

struct Parser<'a> {
    words: &'a [Word],
    at: usize,
    family: IpFamily,
    /// Whether there was a `!` before the option.
    not: bool,
    rule: Rule,
}

/// Puts a value where there is none.
fn once<T>(place: &mut Option<T>, value: T) -> Parsed<()> {
    if place.replace(value).is_none() { Ok(()) } else { Err("twice the same option".to_owned()) }
}

impl Parser<'_> {
    fn next(&mut self) -> Parsed<&str> {
        let word = self.words.get(self.at).ok_or("expected a value")?;
        self.at += 1;
        if word.quoted { Err(format!("{:?} is quoted", word.text)) } else { Ok(&word.text) }
    }

    /// What follows an option; nothing that looks like another option.
    fn value(&mut self) -> Parsed<&str> {
        let word = self.next()?;
        if word.starts_with(['-', '!']) { Err(format!("{word:?} for a value")) } else { Ok(word) }
    }

    fn option(&mut self) -> Parsed<()> {
        let mut option = self.next()?.to_owned();
        self.not = option == "!";
        if self.not {
            self.next()?.clone_into(&mut option);
            if !["-s", "-d", "-i", "--mark", "--ctstate"].contains(&&*option) {
                return Err(format!("the opposite of {option}"));
            }
        }
        match &*option {
            "-s" => {
                let net = self.net()?;
                once(&mut self.rule.source, Either { is: !self.not, of: net })
            }
            "-d" => {
                let net = self.net()?;
                once(&mut self.rule.destination, Either { is: !self.not, of: net })
            }
            "-i" => {
                let of = self.interface()?;
                once(&mut self.rule.interface, Either { is: !self.not, of })
            }
            "-p" => {
                let protocol = protocol(self.value()?).ok_or("unknown protocol")?;
                once(&mut self.rule.protocol, protocol)
            }
            "-m" => self.module(),
            "--dport" => {
                let ports = ports(self.value()?)?;
                let own = self.rule.matches.iter_mut().find_map(|one| match one {
                    Match::Transport(_, ports) => Some(ports),
                    _ => None,
                });
                once(own.ok_or("a port without a transport")?, ports)
            }
            "-j" => {
                let target = self.target()?;
                once(&mut self.rule.target, target)
            }
            "-g" => {
                let chain = chain_name(self.value()?)?;
                once(&mut self.rule.target, Target::Goto(chain))
            }
            other => Err(format!("unknown option {other:?}")),
        }
    }

    fn expect(&mut self, option: &str) -> Parsed<()> {
        let found = self.next()?;
        if found == option { Ok(()) } else { Err(format!("expected {option}, not {found:?}")) }
    }

    fn take(&mut self, option: &str) -> bool {
        let plain = |word: &Word| !word.quoted && word.text == option;
        let found = self.words.get(self.at).is_some_and(plain);
        self.at += usize::from(found);
        found
    }

    fn module(&mut self) -> Parsed<()> {
        let name = self.value()?.to_owned();
        let new = match &*name {
            "comment" => {
                self.expect("--comment")?;
                let word = self.words.get(self.at).ok_or("expected a comment")?;
                self.at += 1;
                // XT_MAX_COMMENT_LEN
                if !word.quoted || word.text.len() > 255 || word.text.starts_with('-') {
                    return Err(format!("{:?} for a comment", word.text));
                }
                Match::Comment(word.text.clone())
            }
            "tcp" | "udp" | "sctp" => {
                Match::Transport(protocol(&name).ok_or("unknown protocol")?, None)
            }
            "addrtype" => {
                let destination = self.take("--dst-type");
                if !destination {
                    self.expect("--src-type")?;
                }
                self.expect("LOCAL")?;
                if destination { Match::DestinationIsLocal } else { Match::SourceIsLocal }
            }
            "conntrack" => {
                let is = !self.take("!");
                self.expect("--ctstate")?;
                Match::State(Either { is, of: states(self.value()?)? })
            }
            "mark" => {
                let is = !self.take("!");
                self.expect("--mark")?;
                Match::Mark(Either { is, of: masked(self.value()?)? })
            }
            "recent" => {
                self.expect("--name")?;
                let list = self.value()?.to_owned();
                // XT_RECENT_NAME_LEN
                if list.len() > 199 || list.contains('/') {
                    return Err(format!("{list:?} for a list"));
                }
                if self.take("--set") {
                    Match::Remember(list)
                } else {
                    self.expect("--rcheck")?;
                    self.expect("--seconds")?;
                    let seconds = self.value()?.parse().ok().filter(|&seconds| seconds > 0);
                    let seconds = seconds.ok_or("expected seconds, at least one")?;
                    Match::Remembered { list, seconds, reap: self.take("--reap") }
                }
            }
            "statistic" => {
                self.expect("--mode")?;
                self.expect("random")?;
                self.expect("--probability")?;
                Match::Chance(chance(self.value()?)?)
            }
            other => return Err(format!("unknown match {other:?}")),
        };
        let kind = std::mem::discriminant(&new);
        if self.rule.matches.iter().any(|one| std::mem::discriminant(one) == kind) {
            return Err(format!("twice the match {name:?}"));
        }
        self.rule.matches.push(new);
        Ok(())
    }

    fn target(&mut self) -> Parsed<Target> {
        let name = self.value()?.to_owned();
        Ok(match &*name {
            "RETURN" => Target::Return,
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "REJECT" => Target::Reject,
            "MARK" => {
                let option = self.next()?.to_owned();
                let Masked { value, mask } = masked(self.value()?)?;
                match &*option {
                    "--or-mark" if mask == u32::MAX => Target::Mark(Masked { value, mask: value }),
                    "--xor-mark" if mask == u32::MAX => Target::Mark(Masked { value, mask: 0 }),
                    "--set-xmark" => Target::Mark(Masked { value, mask }),
                    _ => return Err(format!("unknown option {option:?} of MARK")),
                }
            }
            "DNAT" => {
                if self.rule.protocol.is_none() {
                    return Err("a port to translate to without -p".to_owned());
                }
                self.expect("--to-destination")?;
                let text = self.value()?.to_owned();
                let to: SocketAddr = text.parse().map_err(|_| "expected an address and a port")?;
                if IpFamily::of(to.ip()) != self.family || to.port() == 0 || to.to_string() != text
                {
                    return Err(format!("{to} for a destination"));
                }
                Target::Translate(to)
            }
            "MASQUERADE" => {
                self.take("--random-fully");
                Target::Masquerade
            }
            _ => Target::Jump(chain_name(&name)?),
        })
    }

    /// An address, or a network without host bits; of the table's family.
    fn net(&mut self) -> Parsed<IpNet> {
        let text = self.value()?.to_owned();
        let net = if text.contains('/') {
            text.parse::<IpNet>().ok()
        } else {
            text.parse::<IpAddr>().ok().map(IpNet::from)
        };
        let net = net.ok_or_else(|| format!("{text:?} is no address"))?;
        if net != net.trunc() || IpFamily::of(net.addr()) != self.family {
            return Err(format!("{net} for a network"));
        }
        Ok(net)
    }

    /// Fewer than IFNAMSIZ bytes, the `+` behind a beginning included.
    fn interface(&mut self) -> Parsed<Interface> {
        // The tools take whatever follows for the name, unless it is the sign for the opposite.
        let name = self.next()?;
        if name.len() >= 16 || name == "!" || name.contains('/') {
            return Err(format!("{name:?} for an interface"));
        }
        Ok(match name.strip_suffix('+') {
            Some(beginning) => Interface::Beginning(beginning.to_owned()),
            None => Interface::Named(name.to_owned()),
        })
    }

    fn finish(self) -> Parsed<Rule> {
        let rule = self.rule;
        for one in &rule.matches {
            if matches!(one, Match::Transport(of, _) if rule.protocol != Some(*of)) {
                return Err("a match of a transport without its -p".to_owned());
            }
        }
        Ok(rule)
    }
}

fn protocol(text: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.as_lower_str() == text)
}

/// A number as it is written, not otherwise.
fn decimal<T: std::str::FromStr + ToString>(text: &str) -> Parsed<T> {
    let number = text.parse().ok().filter(|number: &T| number.to_string() == text);
    number.ok_or_else(|| format!("{text:?} is no number"))
}

fn ports(text: &str) -> Parsed<RangeInclusive<u16>> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let ports = decimal(first)?..=decimal(last)?;
    if ports.is_empty() { Err(format!("{text:?}: no ports")) } else { Ok(ports) }
}

fn states(text: &str) -> Parsed<BTreeSet<State>> {
    let states = text.split(',').map(|name| match name {
        "INVALID" => Ok(State::Invalid),
        "NEW" => Ok(State::New),
        "RELATED" => Ok(State::Related),
        "ESTABLISHED" => Ok(State::Established),
        "DNAT" => Ok(State::Dnat),
        other => Err(format!("unknown state {other:?}")),
    });
    states.collect()
}

/// `0x00004000/0x00004000`; all bits without a mask.
fn masked(text: &str) -> Parsed<Masked> {
    let bits = |text: &str| {
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        let bits = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        bits.ok_or_else(|| format!("{text:?} is no mark"))
    };
    match text.split_once('/') {
        Some((value, mask)) => Ok(Masked { value: bits(value)?, mask: bits(mask)? }),
        None => Ok(Masked { value: bits(text)?, mask: u32::MAX }),
    }
}

/// As the tools round it to what the kernel takes.
fn chance(text: &str) -> Parsed<u32> {
    let digits = text.split_once('.').map(|(_, digits)| digits).unwrap_or_default();
    let part: f64 = text.parse().map_err(|_| "expected a probability")?;
    if digits.len() != 10 || !(0.0..=1.0).contains(&part) {
        return Err(format!("{text:?} for a probability"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    Ok((part * f64::from(super::walk::WHOLE)).round() as u32)
}
