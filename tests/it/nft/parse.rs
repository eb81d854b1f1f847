//! The text of a script as commands, with nothing left over. Whatever is not known here is an error.
//!
//! Source: nft(8), the grammar of nft 1.0.6.

use std::collections::BTreeMap;
use std::fmt;

use svcplane::net::{IpFamily, Protocol};

use super::script::{
    Among, Base, Command, Data, Element, Field, Kind, Rule, Spec, Statement, Table, To, Verdict,
    data, number, values,
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    /// `\n` and `;` alike are `;`.
    Sign(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Quoted(text) => write!(f, "\"{text}\""),
            Self::Sign(sign) => f.write_str(sign),
        }
    }
}

const SIGNS: [&str; 9] = ["!=", "{", "}", ",", "=", "@", "&", "|", "!"];

fn tokens(script: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = script;
    let in_word = |c: char| c.is_ascii_alphanumeric() || "._-/:[]".contains(c);
    while let Some(first) = rest.chars().next() {
        let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
        if let Some(sign) = sign {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == ' ' {
            rest = &rest[1..];
        } else if first == '\n' || first == ';' {
            tokens.push(Token::Sign(";"));
            rest = &rest[1..];
        } else if first == '"' {
            let (text, after) = rest[1..].split_once('"').ok_or("a quote without an end")?;
            if !text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+@*".contains(c)) {
                return Err(format!("{text:?} is quoted"));
            }
            tokens.push(Token::Quoted(text.to_owned()));
            rest = after;
        } else {
            let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("a script with {first:?}"));
            }
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    Ok(tokens)
}

/// All commands of a script.
pub(super) fn parse(script: &str) -> Result<Vec<Command>, String> {
    let tokens = tokens(script)?;
    let mut parser = Parser { tokens: &tokens, at: 0 };
    let mut commands = Vec::new();
    loop {
        parser.skip_ends();
        if parser.at == tokens.len() {
            return Ok(commands);
        }
        let start = parser.at;
        parser.command(&mut commands).and_then(|()| parser.end()).map_err(|error| {
            let near: Vec<String> =
                tokens[start..].iter().take(parser.at - start + 3).map(Token::to_string).collect();
            format!("{error}: {}", near.join(" "))
        })?;
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

type Parsed<T = ()> = Result<T, String>;

impl Parser<'_> {
    fn peek_word(&self, ahead: usize) -> &str {
        match self.tokens.get(self.at + ahead) {
            Some(Token::Word(word)) => word,
            _ => "",
        }
    }

    fn peek_sign(&self, sign: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if *found == sign)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = self.peek_sign(sign);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek_word(0) == word;
        self.at += usize::from(found);
        found
    }

    fn sign(&mut self, sign: &str) -> Parsed {
        if self.take_sign(sign) { Ok(()) } else { Err(format!("expected {sign}")) }
    }

    fn expect(&mut self, words: &str) -> Parsed {
        for word in words.split(' ') {
            if !self.take_word(word) {
                return Err(format!("expected {word}"));
            }
        }
        Ok(())
    }

    fn word(&mut self) -> Parsed<String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word.clone())
            }
            other => Err(format!("expected a word, not {other:?}")),
        }
    }

    /// A name as nft's scanner has it: not longer than the kernel takes.
    fn name(&mut self) -> Parsed<String> {
        let name = self.word()?;
        let legal = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if well_formed && name.chars().all(legal) && name.len() <= 255 {
            Ok(name)
        } else {
            Err(format!("{name:?} is no name"))
        }
    }

    fn number(&mut self) -> Parsed<u32> {
        let word = self.word()?;
        number(&word).ok_or_else(|| format!("{word:?} is no number"))
    }

    fn skip_ends(&mut self) {
        while self.take_sign(";") {}
    }

    fn end(&mut self) -> Parsed {
        if self.at == self.tokens.len() { Ok(()) } else { self.sign(";") }
    }

    fn table(&mut self) -> Parsed<Table> {
        let family = match &*self.word()? {
            "ip" => IpFamily::V4,
            "ip6" => IpFamily::V6,
            other => return Err(format!("{other:?} is no family")),
        };
        Ok(Table { family, name: self.name()? })
    }

    fn command(&mut self, commands: &mut Vec<Command>) -> Parsed {
        if self.take_word("table") {
            return self.block(commands);
        }
        let (verb, what) = (self.word()?, self.word()?);
        let table = self.table()?;
        let named = |parser: &mut Self| parser.name();
        commands.push(match (&*verb, &*what) {
            ("add", "table") => Command::AddTable(table),
            ("delete", "table") => Command::DeleteTable(table),
            ("add", "chain") => Command::AddChain(table, named(self)?, None),
            ("flush", "chain") => Command::FlushChain(table, named(self)?),
            ("delete", "chain") => Command::DeleteChain(table, named(self)?),
            ("delete", "set") => Command::DeleteSet(table, named(self)?, Kind::Set),
            ("delete", "map") => Command::DeleteSet(table, named(self)?, Kind::Map),
            ("add", "set" | "map") => {
                let name = named(self)?;
                let (spec, elements) = self.spec(&what, table.family)?;
                if !elements.is_empty() {
                    return Err("elements in one line with their set".to_owned());
                }
                Command::AddSet(table, name, spec)
            }
            ("add", "rule") => {
                let name = named(self)?;
                let rule = self.rule(table.family)?;
                Command::AddRule(table, name, rule)
            }
            ("add" | "delete", "element") => {
                let name = named(self)?;
                self.sign("{")?;
                let element = self.element()?;
                self.sign("}")?;
                if verb == "add" {
                    Command::AddElement(table, name, element)
                } else {
                    Command::DeleteElement(table, name, element)
                }
            }
            _ => return Err(format!("unknown: {verb} {what}")),
        });
        Ok(())
    }

    /// Within a block all sets and chains are there before elements and rules refer to them.
    fn block(&mut self, commands: &mut Vec<Command>) -> Parsed {
        let table = self.table()?;
        self.sign("{")?;
        let (mut objects, mut contents) = (Vec::new(), Vec::new());
        loop {
            self.skip_ends();
            if self.take_sign("}") {
                break;
            }
            let what = self.word()?;
            let name = self.name()?;
            let of = || (table.clone(), name.clone());
            match &*what {
                "set" | "map" => {
                    let (spec, elements) = self.spec(&what, table.family)?;
                    objects.push(Command::AddSet(of().0, of().1, spec));
                    let add = |element| Command::AddElement(of().0, of().1, element);
                    contents.extend(elements.into_iter().map(add));
                }
                "chain" => {
                    self.sign("{")?;
                    self.skip_ends();
                    let base = if self.peek_word(0) == "type" { Some(self.base()?) } else { None };
                    objects.push(Command::AddChain(of().0, of().1, base));
                    loop {
                        self.skip_ends();
                        if self.take_sign("}") {
                            break;
                        }
                        let rule = self.rule(table.family)?;
                        contents.push(Command::AddRule(of().0, of().1, rule));
                        self.end()?;
                    }
                }
                _ => return Err(format!("unknown: {what}")),
            }
            self.end()?;
        }
        commands.push(Command::AddTable(table));
        commands.append(&mut objects);
        commands.append(&mut contents);
        Ok(())
    }

    fn base(&mut self) -> Parsed<Base> {
        self.expect("type")?;
        let of = self.word()?;
        self.expect("hook")?;
        let hook = self.word()?;
        self.expect("priority")?;
        let priority = self.word()?;
        let priority = priority.parse().map_err(|_| format!("{priority:?} is no priority"))?;
        self.sign(";")?;
        self.expect("policy accept")?;
        self.sign(";")?;
        let known = matches!(
            (&*of, &*hook),
            ("filter", "prerouting" | "input" | "forward" | "output" | "postrouting")
                | ("nat", "prerouting" | "input" | "output" | "postrouting")
        );
        if known { Ok(Base { of, hook, priority }) } else { Err(format!("{of} at {hook}")) }
    }

    fn spec(&mut self, what: &str, family: IpFamily) -> Parsed<(Spec, Vec<Element>)> {
        let kind = if what == "set" { Kind::Set } else { Kind::Map };
        let (key, data) = (Vec::new(), Data::None);
        let (interval, dynamic, timeout, size) = (false, false, None, None);
        let mut spec = Spec { kind, key, data, interval, dynamic, timeout, size };
        let mut elements = Vec::new();
        self.sign("{")?;
        loop {
            self.skip_ends();
            if self.take_sign("}") {
                break;
            }
            match &*self.word()? {
                "typeof" => {
                    spec.key = self.concat(family)?;
                    if self.take_word(":") {
                        spec.data = if self.take_word("verdict") {
                            Data::Verdict
                        } else {
                            Data::Fields(self.concat(family)?)
                        };
                    }
                }
                "flags" => loop {
                    match &*self.word()? {
                        "interval" => spec.interval = true,
                        "dynamic" => spec.dynamic = true,
                        // Those with a timeout say so by themselves.
                        "timeout" => {}
                        other => return Err(format!("unknown: flag {other}")),
                    }
                    if !self.take_sign(",") {
                        break;
                    }
                },
                "timeout" => {
                    let word = self.word()?;
                    let seconds = word.strip_suffix('s').and_then(|s| s.parse().ok());
                    spec.timeout = Some(seconds.ok_or_else(|| format!("{word:?} is no timeout"))?);
                }
                "size" => spec.size = Some(self.number()? as usize),
                "elements" => {
                    self.sign("=")?;
                    elements = self.elements()?;
                }
                other => return Err(format!("unknown: {other} in a {what}")),
            }
            self.end()?;
        }
        if spec.key.is_empty() || (kind == Kind::Map) != (spec.data != Data::None) {
            return Err(format!("a {what} of no type"));
        }
        Ok((spec, elements))
    }

    /// `{ … }`: new lines may be after commas.
    fn elements(&mut self) -> Parsed<Vec<Element>> {
        self.sign("{")?;
        let mut elements = Vec::new();
        loop {
            elements.push(self.element()?);
            if !self.take_sign(",") {
                break;
            }
            self.skip_ends();
        }
        self.sign("}")?;
        Ok(elements)
    }

    fn element(&mut self) -> Parsed<Element> {
        let key = self.words()?;
        let data = if !self.take_word(":") {
            Vec::new()
        } else if matches!(self.peek_word(0), "goto" | "jump") {
            vec![self.word()?, self.name()?]
        } else {
            self.words()?
        };
        Ok(Element { key, data })
    }

    /// Words with dots in between.
    fn words(&mut self) -> Parsed<Vec<String>> {
        let mut words = vec![self.word()?];
        while self.take_word(".") {
            words.push(self.word()?);
        }
        Ok(words)
    }

    fn concat(&mut self, family: IpFamily) -> Parsed<Vec<Field>> {
        let mut fields = vec![self.field(family)?];
        while self.take_word(".") {
            fields.push(self.field(family)?);
        }
        Ok(fields)
    }

    fn field(&mut self, family: IpFamily) -> Parsed<Field> {
        let ip = if family == IpFamily::V4 { "ip" } else { "ip6" };
        let two = format!("{} {}", self.peek_word(0), self.peek_word(1));
        let field = match &*two {
            "meta l4proto" => Field::Transport,
            "th dport" => Field::Port,
            "tcp dport" => Field::PortOf(Protocol::Tcp),
            "udp dport" => Field::PortOf(Protocol::Udp),
            "sctp dport" => Field::PortOf(Protocol::Sctp),
            "meta mark" => Field::Mark,
            "meta priority" => Field::Priority,
            "numgen random" => {
                self.at += 2;
                self.expect("mod")?;
                return self.number().map(Field::Random);
            }
            _ if two == format!("{ip} saddr") => Field::Saddr,
            _ if two == format!("{ip} daddr") => Field::Daddr,
            _ if two == format!("jhash {ip}") => {
                self.at += 2;
                self.expect("saddr mod")?;
                let of = self.number()?;
                self.expect("seed")?;
                self.number()?;
                return Ok(Field::Hash(of));
            }
            _ => return Err(format!("unknown: {two}")),
        };
        self.at += 2;
        Ok(field)
    }

    fn rule(&mut self, family: IpFamily) -> Parsed<Rule> {
        let start = self.at;
        let mut statements = Vec::new();
        while self.at < self.tokens.len() && !self.peek_sign(";") && !self.peek_sign("}") {
            statements.push(self.statement(family)?);
        }
        let words: Vec<String> = self.tokens[start..self.at].iter().map(Token::to_string).collect();
        Ok(Rule { text: words.join(" "), statements })
    }

    fn statement(&mut self, family: IpFamily) -> Parsed<Statement> {
        let ip = if family == IpFamily::V4 { "ip" } else { "ip6" };
        match (self.peek_word(0), self.peek_word(1)) {
            ("accept" | "drop" | "reject" | "return", _) => {
                Ok(Statement::Verdict(match &*self.word()? {
                    "accept" => Verdict::Accept,
                    "drop" => Verdict::Drop,
                    "reject" => Verdict::Reject,
                    _ => Verdict::Return,
                }))
            }
            ("jump", _) => {
                self.at += 1;
                self.name().map(Verdict::Jump).map(Statement::Verdict)
            }
            ("goto", _) => {
                self.at += 1;
                self.name().map(Verdict::Goto).map(Statement::Verdict)
            }
            ("masquerade", _) => {
                self.expect("masquerade fully-random")?;
                Ok(Statement::Masquerade)
            }
            ("ct", "state") => {
                self.expect("ct state new")?;
                Ok(Statement::IsNew)
            }
            ("ct", _) => {
                self.expect("ct status")?;
                let is = !self.take_sign("!");
                self.expect("dnat")?;
                Ok(Statement::IsTranslated(is))
            }
            ("fib", side) => {
                let field = if side == "saddr" { Field::Saddr } else { Field::Daddr };
                self.at += 1;
                if !self.take_word("saddr") {
                    self.expect("daddr")?;
                }
                self.expect("type local")?;
                Ok(Statement::IsLocal(field))
            }
            ("iifname", _) => {
                self.at += 1;
                let is = !self.take_sign("!=");
                let Some(Token::Quoted(name)) = self.tokens.get(self.at) else {
                    return Err("expected a quoted name".to_owned());
                };
                self.at += 1;
                let beginning = name.strip_suffix('*');
                let text = beginning.unwrap_or(name);
                if text.contains('*') || text.is_empty() || text.len() > 15 {
                    return Err(format!("{name:?} is no interface"));
                }
                Ok(Statement::Interface(text.to_owned(), beginning.is_some(), is))
            }
            ("meta", "mark") => self.mark(),
            ("meta", "priority") if self.peek_word(2) == "set" => {
                self.expect("meta priority set")?;
                let fields = self.concat(family)?;
                self.expect("map")?;
                let to = self.to(family, &fields, &Data::Fields(vec![Field::Priority]))?;
                Ok(Statement::SetPriority(fields, to))
            }
            (verb @ ("update" | "delete"), _) => {
                let deletes = verb == "delete";
                self.at += 1;
                self.sign("@")?;
                let name = self.name()?;
                self.sign("{")?;
                let key = self.concat(family)?;
                let data = if self.take_word(":") { self.concat(family)? } else { Vec::new() };
                self.sign("}")?;
                Ok(if deletes {
                    Statement::Delete(name, key, data)
                } else {
                    Statement::Update(name, key, data)
                })
            }
            ("dnat", _) => {
                self.expect("dnat")?;
                self.expect(ip)?;
                self.expect("to")?;
                if let Ok(addr) = self.peek_word(0).parse() {
                    self.at += 1;
                    return Ok(Statement::TranslateTo(addr));
                }
                let fields = self.concat(family)?;
                self.expect("map")?;
                let endpoint = Data::Fields(vec![Field::Daddr, Field::Port]);
                let to = self.to(family, &fields, &endpoint)?;
                Ok(Statement::Translate(fields, to))
            }
            _ => self.matching(family),
        }
    }

    fn mark(&mut self) -> Parsed<Statement> {
        self.expect("meta mark")?;
        if !self.take_word("set") {
            self.sign("&")?;
            let bits = self.number()?;
            self.sign("!=")?;
            self.expect("0")?;
            return Ok(Statement::Mark(bits, true));
        }
        self.expect("meta mark")?;
        if self.take_sign("|") {
            return Ok(Statement::SetMark(u32::MAX, self.number()?));
        }
        self.sign("&")?;
        Ok(Statement::SetMark(self.number()?, 0))
    }

    fn to(&mut self, family: IpFamily, fields: &[Field], of: &Data) -> Parsed<To> {
        if self.take_sign("@") {
            return self.name().map(To::Named);
        }
        let mut listed = BTreeMap::new();
        for element in self.elements()? {
            let key = values(fields, family, &element.key, false)?;
            if listed.insert(key, data(of, family, &element.data)?).is_some() {
                return Err("two elements of one key".to_owned());
            }
        }
        Ok(To::Listed(listed))
    }

    fn matching(&mut self, family: IpFamily) -> Parsed<Statement> {
        let fields = self.concat(family)?;
        if self.take_word("vmap") {
            let to = self.to(family, &fields, &Data::Verdict)?;
            return Ok(Statement::Lookup(fields, to));
        }
        let is = !self.take_sign("!=");
        let among = if self.take_sign("@") {
            Among::Named(self.name()?)
        } else if self.peek_sign("{") {
            let elements = self.elements()?;
            if elements.iter().any(|element| !element.data.is_empty()) {
                return Err("a set with data".to_owned());
            }
            let values = |e: &Element| values(&fields, family, &e.key, true);
            Among::Listed(elements.iter().map(values).collect::<Result<_, _>>()?)
        } else {
            Among::Listed(vec![values(&fields, family, &self.words()?, true)?])
        };
        Ok(Statement::Matches(fields, is, among))
    }
}
