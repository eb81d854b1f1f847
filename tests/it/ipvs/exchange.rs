//! How an answer comes in: in parts, with what does not belong to it, and broken.

use svcplane::ipvs::{
    Command, Exchange, ExchangeError, Forwarding, ListedReal, RealServer, Reply, Request,
    VirtualKey,
};

const SEQUENCE: u32 = 7;

fn list() -> Command {
    Command::ListReal(VirtualKey::tcp("10.0.0.1:80".parse().unwrap()))
}

/// Three real servers, and the end: a message each.
fn answer() -> (Vec<Reply>, Vec<Vec<u8>>) {
    let server = |n: u8| RealServer::new(([10, 1, 0, n], 80).into(), Forwarding::Direct);
    let replies: Vec<Reply> = (1..4).map(|n| Reply::Real(ListedReal::new(server(n)))).collect();
    let mut rest = Request::new(list(), 28, SEQUENCE).answer(&replies);
    let mut messages = Vec::new();
    while let Some(length) = rest.first_chunk() {
        let behind = rest.split_off(u32::from_ne_bytes(*length) as usize);
        messages.push(rest);
        rest = behind;
    }
    assert_eq!(messages.len(), 4);
    (replies, messages)
}

fn exchange() -> Exchange {
    Exchange::new(list(), 28, SEQUENCE)
}

/// A message of netlink's own.
fn own(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("short");
    let kind = [kind.to_ne_bytes(), flags.to_ne_bytes()].concat();
    [&length.to_ne_bytes()[..], &kind, &sequence.to_ne_bytes(), &[0; 4], payload].concat()
}

#[test]
fn a_list_comes_in_parts() {
    let (replies, messages) = answer();
    for split in 0..=3 {
        let mut exchange = exchange();
        let mut received = exchange.receive(&messages[..split].concat()).unwrap();
        assert_eq!((received.len(), exchange.is_over()), (split, false));
        received.extend(exchange.receive(&messages[split..].concat()).unwrap());
        assert_eq!((received, exchange.is_over()), (replies.clone(), true));
        // Whatever comes then belongs to nobody.
        assert_eq!(exchange.receive(&messages[0]), Ok(vec![]));
        assert_eq!(exchange.receive(&[1, 2, 3]), Ok(vec![]));
    }
}

/// An earlier request that was given up is answered still, and its errors are its own.
#[test]
fn what_answers_another_request_is_passed_over() {
    let (replies, messages) = answer();
    let stale = Request::new(list(), 28, SEQUENCE - 1);
    let mut exchange = exchange();
    for other in [
        stale.answer(&replies),
        stale.refuse(3),
        own(4, 0, SEQUENCE - 1, &[]),
        own(3, 0x10, 0, &[0; 4]),
        // Netlink's message that says nothing; the next one begins at the next fourth byte.
        own(1, 0, SEQUENCE, &[]),
        [&own(1, 0, SEQUENCE, &[7]), &[0; 3][..], &own(1, 0, SEQUENCE, &[7])].concat(),
    ] {
        assert_eq!(exchange.receive(&other), Ok(vec![]));
        assert!(!exchange.is_over());
    }
    assert_eq!(exchange.receive(&messages.concat()), Ok(replies));
}

/// The kernel says so in any message of the list, the last included.
#[test]
fn a_list_that_changed_while_it_was_read_is_no_list() {
    let (replies, messages) = answer();
    for at in 0..messages.len() {
        let mut messages = messages.clone();
        messages[at][6] |= 0x10;
        let (head, end) = messages.split_at(3);
        let mut exchange = exchange();
        assert_eq!(exchange.receive(&head.concat()), Ok(replies.clone()), "{at}");
        assert_eq!(exchange.receive(&end.concat()), Err(ExchangeError::Interrupted), "{at}");
        assert!(exchange.is_over());
    }
}

#[test]
fn what_is_lost_or_cut_off_is_an_error() {
    let (_, messages) = answer();
    let whole = messages.concat();
    let ends: Vec<usize> = messages
        .iter()
        .scan(0, |end, m| {
            *end += m.len();
            Some(*end)
        })
        .collect();
    for cut in 0..whole.len() {
        let mut exchange = exchange();
        let received = exchange.receive(&whole[..cut]);
        if cut == 0 || ends.contains(&cut) {
            assert!(received.is_ok() && !exchange.is_over(), "{cut}");
        } else {
            assert_eq!(received, Err(ExchangeError::Truncated), "{cut}");
            assert!(exchange.is_over());
        }
    }
    for (message, error) in [
        (own(4, 0, SEQUENCE, &[0; 8]), ExchangeError::Overrun),
        // Shorter than their own headers.
        (own(2, 0, SEQUENCE, &[0; 3]), ExchangeError::Truncated),
        (own(3, 2, SEQUENCE, &[0; 3]), ExchangeError::Truncated),
        (own(28, 2, SEQUENCE, &[5, 1]), ExchangeError::Truncated),
        ([8, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0].to_vec(), ExchangeError::Truncated),
    ] {
        let mut exchange = exchange();
        assert_eq!(exchange.receive(&[&messages[0][..], &message].concat()), Err(error));
        assert!(exchange.is_over());
    }
}

#[test]
fn another_answer_is_an_error() {
    let (_, messages) = answer();
    for (command, family) in
        [(Command::ListVirtual, 28), (Command::Flush, 28), (Command::ListDaemons, 28), (list(), 29)]
    {
        let mut exchange = Exchange::new(command, family, SEQUENCE);
        let error = exchange.receive(&messages[0]).unwrap_err();
        assert!(
            matches!(error, ExchangeError::Unexpected { message_type: 28, command: 5 }),
            "{command}: {error}"
        );
        assert!(exchange.is_over());
    }
}

/// A list may fail at its end; then that is what came of it. An empty end, and one that says more than a number, is one.
#[test]
fn the_end_of_a_list_says_how_it_went() {
    for (payload, expected) in [
        (&[][..], Ok(vec![])),
        (&[0; 4], Ok(vec![])),
        (&[0, 0, 0, 0, 1, 2, 3, 4], Ok(vec![])),
        (&(-1_i32).to_ne_bytes(), Err(1)),
        (&i32::MIN.to_ne_bytes(), Err(i32::MAX)),
    ] {
        let mut exchange = exchange();
        let received = exchange.receive(&own(3, 2, SEQUENCE, payload));
        let number = |error| match error {
            ExchangeError::Refused(error) => error.errno(),
            other => panic!("{other}"),
        };
        assert_eq!(received.map_err(number), expected);
        assert!(exchange.is_over());
    }
}

/// The family is asked for at the controller, whatever the number. Bytes of `ipvsadm` 1.31 and Linux 6.1.176, but for the sequence and the
/// port.
#[test]
fn the_family_is_asked_for() {
    let mut exchange = Exchange::new(Command::ResolveFamily, 0, 1);
    let request = [
        32, 0, 0, 0, 16, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0, 9, 0, 2, 0, b'I', b'P', b'V',
        b'S', 0, 0, 0, 0,
    ];
    assert_eq!(exchange.request(), request);
    let mut answer = [
        64, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 9, 0, 2, 0, b'I', b'P', b'V',
        b'S', 0, 0, 0, 0, 6, 0, 1, 0, 28, 0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 8, 0, 4, 0, 0, 0, 0, 0,
        8, 0, 5, 0, 6, 0, 0, 0,
    ];
    assert_eq!(exchange.receive(&answer), Ok(vec![Reply::Family(28)]));
    assert!(!exchange.is_over());
    let end = Request::decode(&request).unwrap().answer(&[]);
    assert_eq!(exchange.receive(&end), Ok(vec![]));
    assert!(exchange.is_over());
    // One that does not say the number.
    answer[34] = 7;
    let mut exchange = Exchange::new(Command::ResolveFamily, 0, 1);
    let [Reply::Unreadable(error)] = exchange.receive(&answer).unwrap()[..] else {
        panic!("nothing to read")
    };
    assert_eq!(error.to_string(), "no CTRL_ATTR_FAMILY_ID");
}
