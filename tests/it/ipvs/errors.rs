//! What the kernel's error numbers mean, by the command that they answer.

use svcplane::ipvs::{Command, CommandError, Exchange, ExchangeError, Request};

use super::recordings::ipvsadm;

const NO_FAMILY: &str = "the kernel has no family IPVS: expected the module ip_vs to be loaded";

/// Source: `tests/data/netlink`, and for the rest `ip_vs_ctl.c` and `genetlink.c` of Linux 6.1.
const TABLE: &[(&str, i32, &str)] = &[
    ("-A -t 10.0.0.1:80 -s rr", 17, "there is a virtual server -t 10.0.0.1:80 already"),
    ("-A -t 10.0.0.1:80 -s no", 2, "the kernel has no scheduler no"),
    (
        "-A -t 10.0.0.1:80 -s rr --pe no",
        2,
        "the kernel has no scheduler rr, or no persistence engine no",
    ),
    ("-A -t 10.0.0.1:80 -s rr", 97, "the kernel's IPVS does not have the address family"),
    ("-A -t 10.0.0.1:80 -s rr", 22, "the kernel takes the command for invalid"),
    ("-E -t 10.0.0.1:80 -s rr", 3, "there is no virtual server -t 10.0.0.1:80"),
    ("-E -t 10.0.0.1:80 -s no", 2, "the kernel has no scheduler no"),
    ("-D -f 7 -6", 3, "there is no virtual server -f 7 -6"),
    ("-L -n -u 10.0.0.1:80", 3, "there is no virtual server -u 10.0.0.1:80"),
    ("-Z -t 10.0.0.1:80", 3, "there is no virtual server -t 10.0.0.1:80"),
    ("-a -t 10.0.0.1:80 -r 10.1.0.1 -m", 3, "there is no virtual server -t 10.0.0.1:80"),
    (
        "-a -t 10.0.0.1:80 -r 10.1.0.1 -m",
        17,
        "there is a real server 10.1.0.1:80 of -t 10.0.0.1:80 already",
    ),
    ("-a -t 10.0.0.1:80 -r 10.1.0.1 -m", 22, "the kernel takes the command for invalid"),
    ("-a -t 10.0.0.1:80 -r 10.1.0.1 -m", 34, "the kernel takes a number for too great"),
    ("-e -t 10.0.0.1:80 -r 10.1.0.1 -m", 3, "there is no virtual server -t 10.0.0.1:80"),
    (
        "-e -t 10.0.0.1:80 -r 10.1.0.1 -m",
        2,
        "there is no real server 10.1.0.1:80 of -t 10.0.0.1:80",
    ),
    ("-d -t 10.0.0.1:80 -r 10.1.0.1:8", 2, "there is no real server 10.1.0.1:8 of -t 10.0.0.1:80"),
    ("-d -t 10.0.0.1:80 -r 10.1.0.1:8", 3, "there is no virtual server -t 10.0.0.1:80"),
    ("--start-daemon master --mcast-interface eth7", 19, "there is no interface eth7"),
    ("--start-daemon backup --mcast-interface lo", 17, "the backup daemon runs already"),
    ("--stop-daemon master", 3, "no master daemon runs"),
    ("--set 1 2 3", 22, "the kernel takes the command for invalid"),
    ("-L --daemon", 95, "the kernel's IPVS does not have the command"),
    ("-C", 1, "not permitted: expected the capability CAP_NET_ADMIN"),
    ("-C", 12, "the kernel answers with the error number 12"),
    ("-C", 3, "the kernel answers with the error number 3"),
    ("-L -n", 2, NO_FAMILY),
    ("-D -t 10.0.0.1:80", 2, NO_FAMILY),
    ("-a -t 10.0.0.1:80 -r 10.1.0.1 -m", 2, NO_FAMILY),
];

#[test]
fn an_error_number_means_what_the_command_says() {
    for &(line, errno, expected) in TABLE {
        let command = ipvsadm::command(line).expect("a command");
        let request = Request::new(command, 28, 9);
        let received = Exchange::new(command, 28, 9).receive(&request.refuse(errno));
        let error = CommandError::new(&command, errno);
        assert_eq!(received, Err(ExchangeError::Refused(error)), "{line}: {errno}");
        assert_eq!(error.to_string(), expected, "{line}: {errno}");
    }
    let family = CommandError::new(&Command::ResolveFamily, 2);
    assert_eq!(family.to_string(), NO_FAMILY);
}

/// Two bits together ask for a list, each alone means something else; and real servers and daemons are answered as lists only.
#[test]
fn half_of_what_asks_for_a_list_asks_for_none() {
    for line in ["-L -n", "-L --daemon"] {
        let command = ipvsadm::command(line).expect("a command");
        for (high, list) in [(0, false), (1, false), (2, false), (3, true)] {
            let mut message = command.encode(28, 1);
            message[7] = high;
            let request = Request::decode(&message);
            assert_eq!(request.is_ok_and(|request| request.command == command), list, "{line}");
        }
    }
}

#[test]
fn an_error_keeps_its_number() {
    let lines = TABLE.iter().map(|(line, ..)| ipvsadm::command(line).expect("a command"));
    for command in lines.chain([Command::ResolveFamily, Command::ListVirtual]) {
        for errno in 1..=133 {
            assert_eq!(CommandError::new(&command, errno).errno(), errno, "{command}");
        }
    }
}
