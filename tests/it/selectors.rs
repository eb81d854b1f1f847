//! Selectors as text, as requirements and as `LabelSelector` objects, against Kubernetes' own test vectors.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use svcplane::field::FieldError;
use svcplane::field::FieldErrorKind::{self, Forbidden, Invalid, Required};
use svcplane::k8s::{LabelSelector, LabelSelectorRequirement};
use svcplane::labels::Operator::{
    DoesNotExist, DoubleEquals, Equals, Exists, GreaterThan, In, LessThan, NotEquals, NotIn,
};
use svcplane::labels::{Labels, Operator, Requirement, Selector};

type Parts<'a> = (&'a str, Operator, &'a [&'a str]);

/// Labels of any text, unchecked: `a=b,c=d`.
fn labels(text: &str) -> Labels {
    text.split_terminator(',').map(|pair| pair.split_once('=').expect("a pair")).collect()
}

fn parse(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn requirement(&(key, operator, values): &Parts<'_>) -> Requirement {
    let made = Requirement::new(key, operator, values.iter().copied());
    made.unwrap_or_else(|errors| panic!("{key:?} {operator} {values:?}: {errors:?}"))
}

fn built(parts: &[Parts<'_>]) -> Selector {
    Selector::new(parts.iter().map(requirement))
}

fn paths(errors: &[FieldError]) -> Vec<&str> {
    errors.iter().map(FieldError::path).collect()
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSelectorParse`, `TestDeterministicParse`: what is
/// accepted is printed without blanks, and by key; requirements of one key keep their order.
#[test]
#[rustfmt::skip]
fn parse_accepts_and_renders() {
    for text in [
        "x=a,y=b,z=c", "", "x!=a,y=b", "x=", "x= ", "x=,z= ", "x= ,z= ", "!x", "x>1", "x>1,z<5",
        " x \t==\r a \n, ! y ",
    ] {
        let expected: String = text.split([' ', '\t', '\r', '\n']).collect();
        assert_eq!(parse(text).to_string(), expected, "{text:?}");
    }
    for text in ["x=a,a=x", "a=x,x=a"] {
        assert_eq!(parse(text).to_string(), "a=x,x=a", "{text:?}");
    }
    assert_eq!(parse("b=2,a!=z,b,a=y,a").to_string(), "a!=z,a=y,a,b=2,b");
}

#[rustfmt::skip]
const PARSED: &[(&str, &[Parts<'_>])] = &[
    ("", &[]), ("\rx", &[("x", Exists, &[])]),
    ("this-is-a-dns.domain.com/key-with-dash", &[("this-is-a-dns.domain.com/key-with-dash", Exists, &[])]),
    ("this-is-another-dns.domain.com/key-with-dash in (so,what)",
        &[("this-is-another-dns.domain.com/key-with-dash", In, &["so", "what"])]),
    ("0.1.2.domain/99 notin (10.10.100.1, tick.tack.clock)",
        &[("0.1.2.domain/99", NotIn, &["10.10.100.1", "tick.tack.clock"])]),
    ("foo  in\t (abc)", &[("foo", In, &["abc"])]), ("x notin\n (abc)", &[("x", NotIn, &["abc"])]),
    ("x  notin\t\t(abc,def)", &[("x", NotIn, &["abc", "def"])]), ("x in (abc,def)", &[("x", In, &["abc", "def"])]),
    ("x in (abc,)", &[("x", In, &["", "abc"])]), ("x in (abc,abc)", &[("x", In, &["abc"])]),
    ("x in ()", &[("x", In, &[""])]),
    ("x in (a,,)", &[("x", In, &["", "a"])]), ("x in (a,,,)", &[("x", In, &["", "a"])]),
    ("x in (a,,,,,,)", &[("x", In, &["", "a"])]), ("x in (a,,a,,a,,a,,)", &[("x", In, &["", "a"])]),
    ("x notin (abc,,def),bar,z in (),w", &[
        ("bar", Exists, &[]), ("w", Exists, &[]), ("x", NotIn, &["", "abc", "def"]), ("z", In, &[""]),
    ]),
    ("x,y in (a)", &[("x", Exists, &[]), ("y", In, &["a"])]),
    ("x=a", &[("x", Equals, &["a"])]), ("x==a", &[("x", DoubleEquals, &["a"])]),
    ("x>1", &[("x", GreaterThan, &["1"])]), ("x<7", &[("x", LessThan, &["7"])]),
    ("x=a,y!=b", &[("x", Equals, &["a"]), ("y", NotEquals, &["b"])]),
    ("x=a,y!=b,z in (h,i,j)", &[("x", Equals, &["a"]), ("y", NotEquals, &["b"]), ("z", In, &["h", "i", "j"])]),
    ("x notin ( )", &[("x", NotIn, &[""])]), ("x notin (, a)", &[("x", NotIn, &["", "a"])]),
    ("a ", &[("a", Exists, &[])]), ("!a", &[("a", DoesNotExist, &[])]),
    ("a in (x,y,notin, z,in)", &[("a", In, &["in", "notin", "x", "y", "z"])]),
    // Keywords are words wherever a key or a value is expected; `exists`, `gt` and `lt` are no keywords.
    ("in in (in),notin notin (in),!exists,gt=lt",
        &[("exists", DoesNotExist, &[]), ("gt", Equals, &["lt"]), ("in", In, &["in"]), ("notin", NotIn, &["in"])]),
    ("in=,notin!=in", &[("in", Equals, &[""]), ("notin", NotEquals, &["in"])]),
];

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSetSelectorParser`.
#[test]
fn parsed_requirements() {
    for (text, expected) in PARSED {
        assert_eq!(parse(text), built(expected), "{text:?}");
    }
}

/// The text, the place, what is there, what was expected.
#[rustfmt::skip]
const REJECTED: &[(&str, usize, &str, &str)] = &[
    ("x=a||y=b", 2, "`a||y`", "a value: letters"), ("x=a=y=b", 3, "`=`", "`,` or the end"),
    ("x==a==b", 4, "`==`", "`,` or the end"), ("!x=a", 2, "`=`", "`,` or the end"),
    ("x<a", 2, "`a`", "a value: a decimal 64-bit integer"), ("x,,y", 2, "`,`", "a key or `!`"),
    (",x,y", 0, "`,`", "a key or `!`"), ("x nott in (y)", 2, "`nott`", "`notin`, `,` or the end"),
    ("a in (xyz),", 11, "the end", "a key or `!`"), ("a in (xyz)b notin ()", 10, "`b`", "`,` or the end"),
    ("a in (xyz abc)", 10, "`abc`", "`,` or `)`"),
    ("a notin(", 8, "the end", "a value, `,` or `)`"), ("a (", 2, "`(`", "`notin`, `,` or the end"),
    ("(", 0, "`(`", "a key or `!`"),
    // Lists.
    ("a in", 4, "the end", "`(`"),
    ("a in b", 5, "`b`", "`(`"),
    ("a in (b", 7, "the end", "`,` or `)`"), ("a in (b=)", 7, "`=`", "`,` or `)`"),
    ("a in (!b)", 6, "`!`", "a value, `,` or `)`"),
    ("a in (b))", 8, "`)`", "`,` or the end"),
    // Keys and values; a text that is bad as both is the key's mistake first.
    ("!", 1, "the end", "a key"), (" ! , x", 3, "`,`", "a key"), ("a, b/ =1", 3, "`b/`", "a key: "),
    ("!é", 1, "`é`", "a key: "), ("~=~", 0, "`~`", "a key: "), ("a=b c", 4, "`c`", "`,` or the end"),
    ("a = -", 4, "`-`", "a value: letters"), ("a in (b, é)", 9, "`é`", "a value: letters"),
    ("a-b notin (a-b, -)", 16, "`-`", "a value: letters"),
    // Integers are also label values, which begin with a letter or digit.
    ("a>-1", 2, "`-1`", "a value: letters"), ("a<+1", 2, "`+1`", "a value: letters"),
    ("a>1.5", 2, "`1.5`", "a value: a decimal 64-bit integer"),
    ("a>0x1", 2, "`0x1`", "a value: a decimal 64-bit integer"),
    ("a>9223372036854775808", 2, "`9223372036854775808`", "a value: a decimal 64-bit integer"),
    // Tokens: operators are as long as possible, all else but special bytes and blanks is part of a word.
    (" , ", 1, "`,`", "a key or `!`"), (" = ", 1, "`=`", "a key or `!`"), (" == ", 1, "`==`", "a key or `!`"),
    (" > ", 1, "`>`", "a key or `!`"), (" < ", 1, "`<`", "a key or `!`"), (" != ", 1, "`!=`", "a key or `!`"),
    (" ) ", 1, "`)`", "a key or `!`"), ("~ ", 0, "`~`", "a key: "), ("|| ", 0, "`||`", "a key: "),
    ("a|b;c\" ", 0, "`a|b;c\"`", "a key: "), ("a\u{b}b ", 0, "`a\u{b}b`", "a key: "),
    ("k===v", 3, "`=`", "a value"), ("k====v", 3, "`==`", "a value"), ("k=!v", 2, "`!`", "a value"),
    ("k=!=v", 2, "`!=`", "a value"), ("k!==v", 3, "`=`", "a value"), ("k= =v", 3, "`=`", "a value"),
    ("k!!=v", 1, "`!`", "`!=`"), ("k>=1", 2, "`=`", "a value"), ("k<>1", 2, "`>`", "a value"),
    ("k=(v)", 2, "`(`", "a value"), ("k()", 1, "`(`", "`in`"), ("k! =v", 1, "`!`", "`!=`"),
    ("== != (), = notin", 0, "`==`", "a key or `!`"), ("!!k", 1, "`!`", "a key"), ("!=k", 0, "`!=`", "a key or `!`"),
    ("k innotin (v)", 2, "`innotin`", "`in`"), ("k In (v)", 2, "`In`", "`in`"),
];

fn rejects(text: &str, at: usize, found: &str, expected: &str) {
    let error = Selector::parse(text.as_bytes()).expect_err(text);
    assert_eq!((error.at, &*error.found), (at, found), "{text:?}: {error}");
    assert!(error.expected.contains(expected), "{text:?}: {error}, not {expected}");
    let shown = format!("at byte {at}: found {found}, expected {}", error.expected);
    assert_eq!(error.to_string(), shown, "{text:?}");
}

/// The upstream rows are of Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSelectorParse` and
/// `TestSetSelectorParser`; the places are this crate's own.
#[test]
fn parse_rejects_at_the_place() {
    for &(text, at, found, expected) in REJECTED {
        rejects(text, at, found, expected);
    }
}

#[test]
fn parse_rejects_missing_integers() {
    for (text, at, found) in [("a>", 2, "the end"), ("a< ,b", 3, "`,`"), ("a>\0\0", 3, "the end")] {
        rejects(text, at, found, "a value: a decimal 64-bit integer");
    }
}

#[test]
fn parse_rejects_long_words_at_the_place() {
    for length in [64, 118, 119, 254, 4000] {
        let word = "a".repeat(length);
        for (before, after) in [("", "=b"), ("b=", ""), ("b in (c, ", ")")] {
            let error = Selector::parse(format!("{before}{word}{after}").as_bytes()).unwrap_err();
            assert_eq!(error.at, before.len(), "{before}{length}×a{after}: {error}");
        }
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestLexer`: a text of one token is a key, or that
/// token is what is wrong with it, whole.
#[test]
#[rustfmt::skip]
fn single_tokens() {
    assert_eq!(parse(""), Selector::everything());
    for word in ["in", "notin"] {
        assert_eq!(parse(word), built(&[(word, Exists, &[])]), "{word:?}");
    }
    for token in [",", "=", "==", ">", "<", "!=", "(", ")"] {
        rejects(token, 0, &format!("`{token}`"), "a key or `!`");
    }
    rejects("!", 1, "the end", "a key");
    rejects("k !", 2, "`!`", "`=`");
    for word in ["~", "||"] {
        rejects(word, 0, &format!("`{word}`"), "a key: ");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestLexerSequence`: what begins with a token that begins
/// nothing is rejected at that token.
#[test]
#[rustfmt::skip]
fn sequences_of_tokens() {
    let rows: &[(&str, &[Parts<'_>])] = &[
        ("key in ( value )", &[("key", In, &["value"])]), ("key notin ( value )", &[("key", NotIn, &["value"])]),
        ("key in ( value1, value2 )", &[("key", In, &["value1", "value2"])]), ("key", &[("key", Exists, &[])]),
        ("!key", &[("key", DoesNotExist, &[])]), ("x in (),y", &[("x", In, &[""]), ("y", Exists, &[])]),
        ("key>2", &[("key", GreaterThan, &["2"])]), ("key<1", &[("key", LessThan, &["1"])]),
    ];
    for (text, expected) in rows {
        assert_eq!(parse(text), built(expected), "{text:?}");
    }
    for (text, tokens) in [
        ("()", &["(", ")"][..]), ("== != (), = notin", &["==", "!=", "(", ")", ",", "=", "notin"]),
    ] {
        let mut rest = text;
        for &token in tokens {
            if token == "notin" {
                assert_eq!(parse(rest), built(&[("notin", Exists, &[])]), "{rest:?}");
            } else {
                rejects(rest, 0, &format!("`{token}`"), "a key or `!`");
            }
            rest = rest.strip_prefix(token).expect("the token").trim_start();
        }
        assert_eq!(rest, "", "{text:?}");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestParseOperator`.
#[test]
fn operator_position() {
    let signs = ["=", "==", "in", "!=", "notin", "", "", ">", "<"];
    for (&operator, sign) in Operator::ALL.iter().zip(signs).filter(|(_, sign)| !sign.is_empty()) {
        let argument = if matches!(operator, In | NotIn) { "(1)" } else { "1" };
        let text = format!("k {sign} {argument}");
        assert_eq!(parse(&text), built(&[("k", operator, &["1"])]), "{text:?}");
    }
    for word in ["!", "exists", "(", ")", "gt", "lt", "k", "~"] {
        for argument in ["", "1", "(1)"] {
            rejects(&format!("k {word} {argument}"), 2, &format!("`{word}`"), "`=`, `==`");
        }
    }
}

/// Kubernetes apimachinery `pkg/labels/selector.go`, `Lexer`: a NUL at the beginning of a token ends the text, one
/// that directly follows a token is swallowed with it. What is no UTF-8 is part of a word, which is never legal.
#[test]
#[rustfmt::skip]
fn nul_bytes() {
    for (text, expected) in [
        ("\0", Some("")), ("\0x==(", Some("")), (" \0x", Some("")), ("x\0", Some("x")), ("x\0=a", Some("x=a")),
        ("x\0y", None), ("x\0\0=a", Some("x")), ("x \0=a", Some("x")), ("x=\0a", Some("x=a")),
        ("x=\0\0a", Some("x=")), ("x=\0=a", None), ("x!\0=a", None), ("!\0x", Some("!x")), ("!\0\0x", None),
        ("x=a,\0y", Some("x=a,y")), ("x=a, \0y", None), ("x in\0(\0b\0,\0a\0)\0", Some("x in (a,b)")),
        ("x in (a\0\0)", None),
    ] {
        let shown = Selector::parse(text.as_bytes()).map(|selector| selector.to_string());
        assert_eq!(shown.as_deref().ok(), expected, "{text:?}: {shown:?}");
    }
    for (text, at, found) in [(&b"\xff"[..], 0, "`\u{fffd}`"), (b"x=\xc3,y", 2, "`\u{fffd}`")] {
        let error = Selector::parse(text).unwrap_err();
        assert_eq!((error.at, &*error.found), (at, found), "{text:?}: {error}");
    }
}

#[rustfmt::skip]
const MATCH: &[(&str, &str)] = &[
    ("", "x=y"), ("x=y", "x=y"), ("x=y,z=w", "x=y,z=w"), ("x!=y,z!=w", "x=z,z=a"), ("notin=in", "notin=in"),
    ("x", "x=z"), ("!x", "y=z"), ("x>1", "x=2"), ("x<1", "x=0"), ("foo=bar", "foo=bar,baz=blah"),
    ("baz=blah", "foo=bar,baz=blah"), ("foo=bar,baz=blah", "foo=bar,baz=blah"),
    ("x>9", "x=10"), ("x>1", "x=+002"), ("x<0", "x=-9223372036854775808"), ("x!=a,x notin (b)", ""), ("x=", "x="),
];

#[rustfmt::skip]
const NO_MATCH: &[(&str, &str)] = &[
    ("x=z", ""), ("x=y", "x=z"), ("x=y,z=w", "x=w,z=w"), ("x!=y,z!=w", "x=z,z=w"), ("x", "y=z"), ("!x", "x=z"),
    ("x>1", "x=0"), ("x<1", "x=2"), ("foo=blah", "foo=bar,baz=blah"), ("baz=bar", "foo=bar,baz=blah"),
    ("foo=bar,foobar=bar,baz=blah", "foo=bar,baz=blah"), ("a=a,a!=a", "a=a"), ("x=", "y="),
    ("x>1", "x=1"), ("x<1", "x=1"), ("x<1", ""), ("x<1", "x="), ("x<0", "x=-9223372036854775809"),
    ("x>0", "x=9223372036854775808"), ("x>0", "x= 2"), ("x>0", "x=1_0"), ("x>0", "x=0x1f"), ("x>0", "x=1.5"),
];

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestSelectorMatches`, and more integers.
#[test]
fn selectors_match() {
    for (rows, expected) in [(MATCH, true), (NO_MATCH, false)] {
        for (text, have) in rows {
            assert_eq!(parse(text).matches(&labels(have)), expected, "{text:?} on {have:?}");
        }
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestRequirementSelectorMatching`.
#[test]
#[rustfmt::skip]
fn requirements_match() {
    let rows: &[(&str, &[Parts<'_>], bool)] = &[
        ("x=foo,y=baz", &[("x", In, &["foo"]), ("y", NotIn, &["alpha"])], true),
        ("x=foo,y=baz", &[("x", In, &["foo"]), ("y", In, &["alpha"])], false),
        ("y=", &[("x", NotIn, &[""]), ("y", Exists, &[])], true),
        ("y=", &[("x", DoesNotExist, &[]), ("y", Exists, &[])], true),
        ("y=", &[("x", NotIn, &[""]), ("y", DoesNotExist, &[])], false), ("y=baz", &[("x", In, &[""])], false),
        ("z=2", &[("z", GreaterThan, &["1"])], true), ("z=v2", &[("z", GreaterThan, &["1"])], false),
    ];
    for (have, parts, expected) in rows {
        assert_eq!(built(parts).matches(&labels(have)), *expected, "{parts:?} on {have:?}");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestToString`, and values and requirements out of order.
#[test]
#[rustfmt::skip]
fn rendering() {
    let rows: &[(&[Parts<'_>], &str)] = &[
        (&[("x", In, &["abc", "def"]), ("y", NotIn, &["jkl"]), ("z", Exists, &[])], "x in (abc,def),y notin (jkl),z"),
        (&[("x", NotIn, &["abc", "def"]), ("y", NotEquals, &["jkl"]), ("z", DoesNotExist, &[])],
            "x notin (abc,def),y!=jkl,!z"),
        (&[("x", NotIn, &["abc"]), ("y", In, &["jkl", "mno"]), ("z", NotIn, &[""])],
            "x notin (abc),y in (jkl,mno),z notin ()"),
        (&[("x", Equals, &["abc"]), ("y", DoubleEquals, &["jkl"]), ("z", NotEquals, &["a"]), ("z", Exists, &[])],
            "x=abc,y==jkl,z!=a,z"),
        (&[("x", GreaterThan, &["2"]), ("y", LessThan, &["8"]), ("z", Exists, &[])], "x>2,y<8,z"),
        (&[("b", In, &["b", "", "a", "B"]), ("a", Exists, &[])], "a,b in (,B,a,b)"),
    ];
    for (parts, expected) in rows {
        assert_eq!(built(parts).to_string(), *expected, "{parts:?}");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestRequirementConstructor`; all errors at once.
#[test]
#[rustfmt::skip]
fn constructor() {
    let long = "a".repeat(254);
    let rows: &[(Parts<'_>, &[&str])] = &[
        (("x1", In, &[]), &["values"]), (("x2", NotIn, &[]), &["values"]),
        (("x3", In, &["foo"]), &[]), (("x4", NotIn, &["foo"]), &[]), (("x5", Equals, &["foo", "bar"]), &["values"]),
        (("x6", Exists, &[]), &[]), (("x7", DoesNotExist, &[]), &[]), (("x8", Exists, &["foo"]), &["values"]),
        (("1foo", In, &["bar"]), &[]), (("1234", In, &["bar"]), &[]),
        (("x11", GreaterThan, &["1"]), &[]), (("x12", LessThan, &["6"]), &[]),
        (("x13", GreaterThan, &[]), &["values"]),
        (("x14", GreaterThan, &["bar"]), &["values[0]"]), (("x15", LessThan, &["bar"]), &["values[0]"]),
        ((&long, Exists, &[]), &["key"]),
        (("x16", Equals, &[&long]), &["values[0][x16]"]), (("x17", Equals, &["a b"]), &["values[0][x17]"]),
        (("x", DoubleEquals, &[]), &["values"]), (("x", NotEquals, &["a", "b"]), &["values"]),
        (("x", DoesNotExist, &[""]), &["values"]), (("x", LessThan, &["1", "2"]), &["values"]),
        (("x", GreaterThan, &["9223372036854775807"]), &[]),
        (("x", GreaterThan, &["9223372036854775808"]), &["values[0]"]),
        (("x", LessThan, &["-1"]), &["values[0][x]"]), (("x", LessThan, &["~"]), &["values[0]", "values[0][x]"]),
        (("x", NotIn, &["b", "-", "", "~", "a"]), &["values[1][x]", "values[3][x]"]),
        (("x", NotIn, &["b", "a", "b"]), &[]),
        (("x/", Exists, &["-", "~"]), &["key", "values", "values[0][x/]", "values[1][x/]"]),
    ];
    for ((key, operator, values), expected) in rows {
        let made = Requirement::new(key, *operator, values.iter().copied());
        let errors = made.as_ref().err().map_or(&[][..], Vec::as_slice);
        assert_eq!(paths(errors), *expected, "{key:?} {operator} {values:?}");
        assert!(errors.iter().all(|error| error.kind() == Invalid), "{errors:?}");
        if let Ok(made) = made {
            assert_eq!((made.key(), made.operator()), (*key, *operator));
            assert!(made.values().iter().map(|value| &**value).eq(values.iter().copied()), "{made:?}");
        }
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestRequiresExactMatch`: a key's first requirement counts.
#[test]
#[rustfmt::skip]
fn exact_matches() {
    let rows: &[(&[Parts<'_>], &str, Option<&str>)] = &[
        (&[("key", In, &["value"])], "key", Some("value")), (&[("key", In, &["value", "value2"])], "key", None),
        (&[("key", In, &["value", "value1"]), ("key2", In, &["value2"])], "key2", Some("value2")),
        (&[("key", Equals, &["value"])], "key", Some("value")),
        (&[("key", DoubleEquals, &["value"])], "key", Some("value")),
        (&[("key", NotEquals, &["value"])], "key", None), (&[("key", NotIn, &["value"])], "key", None),
        (&[("key", GreaterThan, &["1"])], "key", None),
        (&[("key", Exists, &[]), ("key", Equals, &["value"])], "key", None),
        (&[("key", Equals, &["value"]), ("key", Equals, &["other"])], "key", Some("value")),
        (&[("key", Equals, &["value"])], "ke", None),
    ];
    for (parts, key, expected) in rows {
        assert_eq!(built(parts).exact_match(key), *expected, "{key:?} of {parts:?}");
    }
}

/// Kubernetes apimachinery `pkg/labels/selector_test.go`, `TestEverything`, `TestAdd`, and `Nothing`.
#[test]
fn everything_nothing_and_with() {
    let (everything, nothing) = (Selector::everything(), Selector::nothing());
    for have in ["", "x=y"].map(labels) {
        assert_eq!((everything.matches(&have), nothing.matches(&have)), (true, false), "{have}");
    }
    assert_eq!((everything.is_empty(), nothing.is_empty()), (true, false));
    assert_eq!((everything.requirements(), nothing.requirements()), (Some(&[][..]), None));
    assert_eq!((everything.to_string(), nothing.to_string()), (String::new(), String::new()));
    assert_eq!(nothing.exact_match("key"), None);

    let (b, a) = (requirement(&("b", In, &["v"])), requirement(&("a", Equals, &["w"])));
    assert_eq!(nothing.clone().with(b.clone()), nothing);
    let both = everything.with(b.clone()).with(a.clone());
    assert_eq!((both.to_string().as_str(), both.is_empty()), ("a=w,b in (v)", false));
    assert_eq!(both, Selector::new([a, b]));
    assert_ne!(parse("a=b"), parse("a in (b)"));
    assert_ne!(built(&[("a", In, &["b", "c"])]), built(&[("a", In, &["c", "b"])]));
}

/// Kubernetes apimachinery `pkg/labels/labels_test.go`, `TestLabelSelectorParse` (`ConvertSelectorToLabelsMap`) and
/// `TestSetString`: `Labels` are printed in the order of the texts of the pairs, selectors in that of the keys.
#[test]
#[rustfmt::skip]
fn labels_as_text() {
    for (text, shown) in [
        ("", ""), ("x=a", "x=a"), ("x=a,y=b,z=c", "x=a,y=b,z=c"), (" x = a , y = b , z = c ", "x=a,y=b,z=c"),
        ("color=green,env=test,service=front", "color=green,env=test,service=front"),
        ("color=green, env=test, service=front", "color=green,env=test,service=front"),
        ("x=y", "x=y"), ("foo=bar", "foo=bar"), ("foo=bar,baz=qup", "baz=qup,foo=bar"), ("x=,x=a", "x=a"), ("a=1,a-b=2", "a-b=2,a=1"),
    ] {
        let read: Labels = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!((&read, read.to_string().as_str()), (&labels(shown), shown), "{text:?}");
    }
    assert_eq!(Selector::from(&labels("a-b=2,a=1")).to_string(), "a=1,a-b=2");
    for (text, at) in [
        (",", 0), ("x", 0), ("x,y", 0), ("x=$y", 0), ("x!=y", 0), ("x==y", 0), ("x=a||y=b", 0), ("x in (y)", 0),
        ("x notin (y)", 0), ("x y", 0), (" ", 0), ("=a", 0), ("x=a,", 1), ("x=a,y= b c", 1),
    ] {
        let error = text.parse::<Labels>().expect_err(text);
        assert_eq!(error.path(), format!("labels[{at}]"), "{text:?}: {error}");
    }
}

/// Kubernetes apimachinery `pkg/labels/labels_test.go`, `TestLabelConflict` and `TestLabelMerge`.
#[test]
fn conflicts_and_merges() {
    for (one, other, conflict, merged) in [
        ("", "", false, ""),
        ("env=test", "infra=true", false, "env=test,infra=true"),
        ("env=test", "infra=true,env=test", false, "env=test,infra=true"),
        ("env=test", "env=dev", true, "env=dev"),
        ("infra=true", "", false, "infra=true"),
        ("infra=true", "env=test,color=blue", false, "color=blue,env=test,infra=true"),
        ("env=test,infra=false", "infra=true,color=blue", true, "color=blue,env=test,infra=true"),
    ] {
        let (a, b) = (labels(one), labels(other));
        assert_eq!((a.conflicts_with(&b), b.conflicts_with(&a)), (conflict, conflict), "{a} {b}");
        assert_eq!(a.merged_with(&b).to_string(), merged, "{a} {b}");
    }
}

type Expressions<'a> = &'a [(&'a str, &'a str, &'a [&'a str])];

fn object(pairs: &str, expressions: Expressions<'_>) -> LabelSelector {
    let mut object = LabelSelector::default();
    object.match_labels = labels(pairs).iter().map(|(k, v)| (k.into(), v.into())).collect();
    for &(key, operator, values) in expressions {
        let mut expression = LabelSelectorRequirement::default();
        (expression.key, expression.operator) = (key.into(), operator.into());
        expression.values = values.iter().map(ToString::to_string).collect();
        object.match_expressions.push(expression);
    }
    object
}

/// Kubernetes apimachinery `pkg/apis/meta/v1/helpers_test.go`, `TestLabelSelectorAsSelector` and
/// `TestLabelSelectorAsMap`: the text of the selector, and of the labels if they say the same.
#[test]
#[rustfmt::skip]
fn objects_to_selectors_and_labels() {
    let rows: &[(&str, Expressions<'_>, &str, Option<&str>)] = &[
        ("", &[], "", Some("")), ("foo=bar", &[], "foo=bar", Some("foo=bar")),
        ("", &[("baz", "In", &["qux", "norf"])], "baz in (norf,qux)", None),
        ("foo=bar", &[("baz", "In", &["qux", "norf"])], "baz in (norf,qux),foo=bar", None),
        ("foo=bar", &[("baz", "In", &["norf"])], "baz in (norf),foo=bar", Some("baz=norf,foo=bar")),
        ("", &[("baz", "In", &["norf"])], "baz in (norf)", Some("baz=norf")),
        ("foo=bar", &[("foo", "In", &["norf"])], "foo=bar,foo in (norf)", Some("foo=norf")),
        ("foo=bar", &[("baz", "NotIn", &["norf"])], "baz notin (norf),foo=bar", None),
        ("", &[("baz", "NotIn", &["norf", "qux"])], "baz notin (norf,qux)", None),
        ("foo=bar", &[("baz", "Exists", &[])], "baz,foo=bar", None),
        ("foo=bar", &[("baz", "DoesNotExist", &[])], "!baz,foo=bar", None),
    ];
    for (pairs, expressions, text, flat) in rows {
        let object = object(pairs, expressions);
        let selector = object.convert().unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"));
        assert_eq!((selector.to_string().as_str(), object.validate()), (*text, vec![]));
        let labels = object.to_labels();
        assert_eq!(labels.as_ref().ok().map(ToString::to_string).as_deref(), *flat, "{text:?}");
        if let Err(errors) = labels {
            assert_eq!(paths(&errors), ["selector.matchExpressions[0]"], "{text:?}");
        }
    }
    // Absent, it selects nothing; empty, everything.
    let meaning = |object: Option<LabelSelector>| {
        object.map_or_else(Selector::nothing, |object| object.convert().expect("legal"))
    };
    assert!(!meaning(None).matches(&labels("x=y")));
    assert_eq!(meaning(Some(LabelSelector::default())), Selector::everything());
}

/// Kubernetes apimachinery `pkg/apis/meta/v1/validation/validation.go`, `ValidateLabelSelector`, and the error of
/// `pkg/apis/meta/v1/helpers_test.go`, `TestLabelSelectorAsSelector` (the first row).
#[test]
#[rustfmt::skip]
fn objects_invalid() {
    type Expected<'a> = &'a [(&'a str, FieldErrorKind)];
    let rows: &[(&str, Expressions<'_>, Expected<'_>)] = &[
        ("", &[("baz", "Exists", &["qux", "norf"])], &[("matchExpressions[0].values", Forbidden)]),
        ("", &[("a", "DoesNotExist", &["b"])], &[("matchExpressions[0].values", Forbidden)]),
        ("", &[("a", "In", &[])], &[("matchExpressions[0].values", Required)]),
        ("a=b", &[("a", "In", &["b"]), ("a", "NotIn", &[])], &[("matchExpressions[1].values", Required)]),
        ("", &[("a", "in", &["b"])], &[("matchExpressions[0].operator", Invalid)]),
        ("", &[("a", "Gt", &["1"])], &[("matchExpressions[0].operator", Invalid)]),
        ("", &[("a/", "In", &["b", "~"])],
            &[("matchExpressions[0].key", Invalid), ("matchExpressions[0].values[1]", Invalid)]),
        ("a=~,b/=c", &[], &[("matchLabels[a]", Invalid), ("matchLabels[b/]", Invalid)]),
    ];
    for (pairs, expressions, expected) in rows {
        let object = object(pairs, expressions);
        let errors = object.convert().expect_err("a mistake");
        let seen: Vec<_> = errors.iter().map(|error| (error.path(), error.kind())).collect();
        let expected: Vec<_> = expected.iter().map(|(path, kind)| (format!("selector.{path}"), *kind)).collect();
        let same = seen.iter().copied().eq(expected.iter().map(|(path, kind)| (&**path, *kind)));
        assert!(same, "{expected:?}: {seen:?}");
        assert_eq!(object.validate(), errors, "{expected:?}");
    }
}

/// Kubernetes apimachinery `pkg/apis/meta/v1/helpers.go`, `ParseToLabelSelector`.
#[test]
#[rustfmt::skip]
fn selectors_to_objects() {
    let rows: &[(&str, &str, Expressions<'_>)] = &[
        ("", "", &[]), ("foo=bar,x==", "foo=bar,x=", &[]),
        ("a in (c,b),foo=bar", "foo=bar", &[("a", "In", &["b", "c"])]),
        ("!c,b,a notin ()", "", &[("a", "NotIn", &[""]), ("b", "Exists", &[]), ("c", "DoesNotExist", &[])]),
    ];
    for (text, pairs, expressions) in rows {
        let made = LabelSelector::try_from(&parse(text)).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(made, object(pairs, expressions), "{text:?}");
        let back = made.convert().expect(text).to_string();
        assert_eq!(back, parse(text).to_string().replace("==", "="), "{text:?}");
    }
    // Labels have each key once.
    let twice = LabelSelector::try_from(&parse("b=82,b==")).expect("two requirements");
    assert_eq!(twice, object("b=82", &[("b", "In", &[""])]));
    let both = twice.convert().expect("a selector");
    assert!(!both.matches(&Labels::from_iter([("b", "")])) && !both.matches(&Labels::from_iter([("b", "82")])));
    for text in ["a!=b", "foo=bar,a>1", "a<1,foo"] {
        let error = LabelSelector::try_from(&parse(text)).expect_err(text);
        assert_eq!((error.path(), error.kind()), ("selector", Invalid), "{text:?}");
    }
    assert_eq!(LabelSelector::try_from(&Selector::nothing()).unwrap_err().path(), "selector");
}

/// Legal keys and sorted legal values for any operator.
fn legal() -> impl Strategy<Value = (String, Operator, BTreeSet<String>)> {
    let name = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,6}[A-Za-z0-9])?";
    let word = prop_oneof![Just("in".to_owned()), Just("notin".to_owned()), name];
    let key = prop_oneof![word.clone(), "[a-z0-9]{1,3}(\\.[a-z0-9]{1,3})?/[A-Za-z0-9]"];
    let values = prop::collection::btree_set(prop_oneof![Just(String::new()), word], 1..5);
    let operator = prop::sample::select(Operator::ALL);
    (key, operator, values, 0..=i64::MAX).prop_map(|(key, operator, values, bound)| {
        let values = match operator {
            In | NotIn => values,
            Exists | DoesNotExist => BTreeSet::new(),
            GreaterThan | LessThan => [bound.to_string()].into(),
            Equals | DoubleEquals | NotEquals => values.into_iter().take(1).collect(),
        };
        (key, operator, values)
    })
}

/// The table of the operators, once more: whether one holds for a key's value.
fn holds(operator: Operator, values: &[&str], value: Option<&str>) -> bool {
    let Some(value) = value else { return matches!(operator, NotEquals | NotIn | DoesNotExist) };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u8>());
    let order = match (number(value), number(values.first().unwrap_or(&""))) {
        (Some(Ok(value)), Some(Ok(bound))) => Some(value.cmp(&bound)),
        _ => None,
    };
    match operator {
        Equals | DoubleEquals => value == values[0],
        NotEquals => value != values[0],
        In => values.contains(&value),
        NotIn => !values.contains(&value),
        Exists => true,
        DoesNotExist => false,
        GreaterThan => order.is_some_and(Ordering::is_gt),
        LessThan => order.is_some_and(Ordering::is_lt),
    }
}

proptest! {
    /// Reading the text of a selector gives that selector, also if it had its values in another order.
    #[test]
    fn parse_undoes_print(parts in prop::collection::vec(legal(), 0..6)) {
        let make = |backwards: bool| Selector::new(parts.iter().map(|(key, operator, values)| {
            let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
            if backwards {
                values.reverse();
            }
            requirement(&(key, *operator, &values))
        }));
        let (sorted, backwards) = (make(false), make(true));
        prop_assert_eq!(sorted.to_string(), backwards.to_string());
        prop_assert_eq!(parse(&sorted.to_string()), sorted);
    }

    /// Any bytes are a selector, which is read again from its text, or an error whose place has what it quotes.
    #[test]
    fn parse_takes_any_bytes(text in prop::collection::vec(
        prop_oneof![6 => prop::sample::select(&b"==!!(),,<> \t\0aab1~"[..]), 1 => any::<u8>()], 0..24,
    )) {
        match Selector::parse(&text) {
            Ok(selector) => prop_assert_eq!(parse(&selector.to_string()), selector),
            Err(error) => {
                let rest = text.get(error.at..).expect("inside the text");
                match error.found.strip_prefix('`').and_then(|found| found.strip_suffix('`')) {
                    None => {
                        prop_assert_eq!(&*error.found, "the end");
                        prop_assert!(matches!(rest, [] | [0, ..]), "{}", error);
                    }
                    Some(found) => {
                        let there = String::from_utf8_lossy(rest);
                        prop_assert!(there.starts_with(found), "{}", error);
                    }
                }
            }
        }
    }

    /// A selector matches exactly if each of its requirements holds, as the table of the operators says.
    #[test]
    fn matches_agree_with_the_table(
        parts in prop::collection::vec((
            prop::sample::select(&["a", "b"][..]),
            prop::sample::select(Operator::ALL),
            prop::sample::subsequence(vec!["", "1", "2", "9", "10", "x"], 1..4).prop_shuffle(),
            prop::sample::select(&["1", "2", "9", "10"][..]),
        ), 0..3),
        have in prop::collection::btree_map(
            prop::sample::select(&["a", "b", "c"][..]),
            prop::sample::select(&["", "1", "2", "9", "10", "x"][..]), 0..4,
        ),
    ) {
        let parts: Vec<(&str, Operator, Vec<&str>)> = parts.into_iter().map(|(key, operator, mut values, bound)| {
            match operator {
                In | NotIn => {}
                Exists | DoesNotExist => values.clear(),
                GreaterThan | LessThan => values = vec![bound],
                Equals | DoubleEquals | NotEquals => values.truncate(1),
            }
            (key, operator, values)
        }).collect();
        let selector = Selector::new(parts.iter().map(|(k, o, values)| requirement(&(k, *o, values))));
        let have: BTreeMap<&str, &str> = have;
        let expected = parts.iter().all(|(k, o, values)| holds(*o, values, have.get(k).copied()));
        prop_assert_eq!(selector.matches(&have.into_iter().collect()), expected, "{}", selector);
    }
}

#[cfg(feature = "serde")]
mod recorded {
    use serde::Deserialize;

    use super::{BTreeMap, Labels, Selector};

    #[derive(Deserialize)]
    struct Recorded {
        objects: Vec<BTreeMap<String, String>>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        #[serde(rename = "in")]
        text: String,
        ok: bool,
        #[serde(flatten)]
        meaning: Meaning,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Meaning {
        out: String,
        reqs: Vec<Requirement>,
        #[serde(rename = "match")]
        matches: Vec<bool>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Requirement {
        key: String,
        op: String,
        values: Vec<String>,
    }

    fn meaning(selector: &Selector, objects: &[Labels]) -> Meaning {
        let reqs = selector.requirements().expect("parsed ones match something").iter();
        let reqs = reqs.map(|requirement| Requirement {
            key: requirement.key().into(),
            op: requirement.operator().as_str().into(),
            values: requirement.values().iter().map(ToString::to_string).collect(),
        });
        let matches = objects.iter().map(|labels| selector.matches(labels)).collect();
        Meaning { out: selector.to_string(), reqs: reqs.collect(), matches }
    }

    /// Recorded from Kubernetes apimachinery 1.30, `labels.Parse`.
    #[test]
    fn strings_replayed() {
        let recorded: Recorded =
            serde_json::from_str(include_str!("../data/selectors/parse.json")).unwrap();
        let objects: Vec<Labels> =
            recorded.objects.into_iter().map(|pairs| pairs.into_iter().collect()).collect();
        let mut accepted = 0;
        for Case { text, ok, meaning: expected } in &recorded.cases {
            match Selector::parse(text.as_bytes()) {
                Ok(selector) => {
                    assert!(ok, "{text:?} accepted as {selector}");
                    assert_eq!(meaning(&selector, &objects), *expected, "{text:?}");
                    accepted += 1;
                }
                Err(error) => assert!(!ok, "{text:?}: {error}"),
            }
        }
        assert_eq!((recorded.cases.len(), accepted), (4000, 1225));
    }
}
