//! The text form of selectors: a lexer over bytes and a parser with one token of look-ahead, both as Kubernetes
//! has them.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use thiserror::Error;

use super::{Operator, Requirement, Selector, check_key, check_value};
use crate::name::NameError;

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at byte {at}: found {found}, expected {expected}")]
#[non_exhaustive]
pub struct ParseSelectorError {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// What is there.
    pub found: Box<str>,
    /// What was expected.
    pub expected: Box<str>,
}

pub(super) fn selector(text: &[u8]) -> Result<Selector, ParseSelectorError> {
    let mut parser = Parser { tokens: tokens(text), at: 0 };
    parser.requirements().map(Selector::new)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    End,
    /// Also `in` and `notin`, wherever a key or value is expected.
    Word,
    Not,
    Comma,
    Open,
    Close,
    Comparison(Operator),
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a [u8],
    at: usize,
    /// It stands where a value could: the value is empty.
    missing: bool,
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

const fn is_special(byte: u8) -> bool {
    matches!(byte, b'=' | b'!' | b'(' | b')' | b',' | b'>' | b'<')
}

fn tokens(text: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        while text.get(at).copied().is_some_and(is_blank) {
            at += 1;
        }
        let rest = &text[at.min(text.len())..];
        let (kind, length) = match rest {
            [] | [0, ..] => (Kind::End, 0),
            [b'=', b'=', ..] => (Kind::Comparison(Operator::DoubleEquals), 2),
            [b'!', b'=', ..] => (Kind::Comparison(Operator::NotEquals), 2),
            [b'=', ..] => (Kind::Comparison(Operator::Equals), 1),
            [b'>', ..] => (Kind::Comparison(Operator::GreaterThan), 1),
            [b'<', ..] => (Kind::Comparison(Operator::LessThan), 1),
            [b'!', ..] => (Kind::Not, 1),
            [b',', ..] => (Kind::Comma, 1),
            [b'(', ..] => (Kind::Open, 1),
            [b')', ..] => (Kind::Close, 1),
            word => {
                let ends = |&b: &u8| b == 0 || is_special(b) || is_blank(b);
                (Kind::Word, word.iter().position(ends).unwrap_or(word.len()))
            }
        };
        tokens.push(Token { kind, text: &rest[..length], at, missing: false });
        if kind == Kind::End {
            return tokens;
        }
        at += length;
        // A NUL that ends a token goes with it.
        if text.get(at) == Some(&0) {
            at += 1;
        }
    }
}

/// An error quotes at most so many characters.
const QUOTED: usize = 120;

impl Token<'_> {
    fn text(&self) -> String {
        String::from_utf8_lossy(self.text).into_owned()
    }

    fn value(&self) -> String {
        if self.missing { String::new() } else { self.text() }
    }

    fn no<T>(&self, what: &str, error: NameError) -> Result<T, ParseSelectorError> {
        let detail = error.to_string();
        let detail = detail.strip_prefix("expected ").unwrap_or(&detail);
        self.unexpected(&alloc::format!("{what}: {detail}"))
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T, ParseSelectorError> {
        let mut text = self.text();
        // As much of a hostile text as a person wants to see.
        if let Some((end, _)) = text.char_indices().nth(QUOTED) {
            text.truncate(end);
            text.push('…');
        }
        let end = self.kind == Kind::End;
        let found = if end { "the end".into() } else { alloc::format!("`{text}`").into() };
        Err(ParseSelectorError { at: self.at, found, expected: expected.into() })
    }
}

struct Parser<'a> {
    /// Ends with the only [`Kind::End`].
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, ParseSelectorError> {
        let mut requirements = Vec::new();
        if self.peek().kind == Kind::End {
            return Ok(requirements);
        }
        loop {
            if !matches!(self.peek().kind, Kind::Word | Kind::Not) {
                return self.peek().unexpected("a key or `!`");
            }
            requirements.push(self.requirement()?);
            let token = self.next();
            match token.kind {
                Kind::End => return Ok(requirements),
                Kind::Comma => {}
                _ => return token.unexpected("`,` or the end"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, ParseSelectorError> {
        let absent = self.peek().kind == Kind::Not;
        if absent {
            self.next();
        }
        let key = self.next();
        if key.kind != Kind::Word {
            return key.unexpected("a key");
        }
        if absent {
            return build(key, Operator::DoesNotExist, &[]);
        }
        if matches!(self.peek().kind, Kind::End | Kind::Comma) {
            return build(key, Operator::Exists, &[]);
        }
        let token = self.next();
        let operator = match (token.kind, token.text) {
            (Kind::Comparison(operator), _) => operator,
            (Kind::Word, b"in") => Operator::In,
            (Kind::Word, b"notin") => Operator::NotIn,
            _ => {
                return token
                    .unexpected("`=`, `==`, `!=`, `>`, `<`, `in`, `notin`, `,` or the end");
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.list()?,
            _ => alloc::vec![self.value()?],
        };
        build(key, operator, &values)
    }

    /// A value, which may be missing: then it is empty.
    fn value(&mut self) -> Result<Token<'a>, ParseSelectorError> {
        let token = self.peek();
        match token.kind {
            Kind::End | Kind::Comma => Ok(Token { missing: true, ..token }),
            Kind::Word => Ok(self.next()),
            _ => token.unexpected("a value"),
        }
    }

    /// `(a,b)`: what is missing between or beside commas is the empty value, and `()` is one of it.
    fn list(&mut self) -> Result<Vec<Token<'a>>, ParseSelectorError> {
        let open = self.next();
        if open.kind != Kind::Open {
            return open.unexpected("`(`");
        }
        let mut values = Vec::new();
        loop {
            let token = self.peek();
            match token.kind {
                Kind::Word => values.push(self.next()),
                Kind::Comma | Kind::Close => values.push(Token { missing: true, ..token }),
                _ => return token.unexpected("a value, `,` or `)`"),
            }
            let token = self.next();
            match token.kind {
                Kind::Comma => {}
                Kind::Close => return Ok(values),
                _ => return token.unexpected("`,` or `)`"),
            }
        }
    }
}

/// A requirement with its values sorted and each there once.
fn build(
    key: Token<'_>,
    operator: Operator,
    values: &[Token<'_>],
) -> Result<Requirement, ParseSelectorError> {
    if let Err(error) = check_key(&key.text()) {
        return key.no("a key", error);
    }
    for value in values {
        let text = value.value();
        let ordered = matches!(operator, Operator::GreaterThan | Operator::LessThan);
        if ordered && text.parse::<i64>().is_err() {
            return value.unexpected("a value: a decimal 64-bit integer");
        }
        if let Err(error) = check_value(&text) {
            return value.no("a value", error);
        }
    }
    let texts: BTreeSet<String> = values.iter().map(Token::value).collect();
    // Nothing is left to be wrong with it; were there, it would be the key's place that is named.
    Requirement::new(&key.text(), operator, texts).or_else(|_| key.unexpected("a requirement"))
}
