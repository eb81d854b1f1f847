//! The arguments of `ipvsadm` 1.31 as commands.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;

use svcplane::ipvs::{
    Command, Daemon, DaemonRole, EngineName, Forwarding, Netmask, Persistence, RealServer,
    SchedulerFlags, Seconds, Thresholds, Timeouts, Tunnel, VirtualKey, VirtualServer, Weight,
};
use svcplane::net::{IpFamily, Protocol};

/// What `ipvsadm` is told, option by option.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "as there are options")]
struct Options<'a> {
    verb: &'a str,
    values: Vec<&'a str>,
    virtual_server: Option<(&'a str, &'a str)>,
    six: bool,
    scheduler: Option<&'a str>,
    flags: SchedulerFlags,
    timeout: Option<u32>,
    netmask: Option<&'a str>,
    engine: Option<EngineName>,
    one_packet: bool,
    real: Option<&'a str>,
    forwarding: Option<&'a str>,
    tunnel: Option<&'a str>,
    tunnel_port: u16,
    checksum: bool,
    remote_checksum: bool,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
    interface: &'a str,
    sync_id: u8,
    max_len: u16,
    group: Option<IpAddr>,
    port: u16,
    ttl: u8,
    listed: Vec<&'a str>,
}

/// The one thing that `ipvsadm` would tell or ask first, `-L` and `-S` included.
pub(crate) fn command(line: &str) -> Result<Command, String> {
    let options = Options::read(line).map_err(|error| format!("{line:?}: {error}"))?;
    options.command().map_err(|error| format!("{line:?}: {error}"))
}

fn parse<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("unexpected {text:?}"))
}

impl<'a> Options<'a> {
    fn read(line: &'a str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = line.split_whitespace().map(short).peekable();
        words.next_if(|word| word.ends_with("ipvsadm"));
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word {
                "-A" | "-E" | "-D" | "-C" | "-S" | "-a" | "-e" | "-d" | "-L" | "-Z" => {
                    options.verb = word;
                }
                "--set" => {
                    (options.verb, options.values) = (word, vec![value()?, value()?, value()?]);
                }
                "--start-daemon" | "--stop-daemon" => {
                    (options.verb, options.values) = (word, vec![value()?]);
                }
                "-t" | "-u" | "--sctp-service" | "-f" => {
                    options.virtual_server = Some((word, value()?));
                }
                "-6" => options.six = true,
                "-s" => options.scheduler = Some(value()?),
                "-b" => options.flags = flags(value()?)?,
                "-p" => {
                    let number = words.next_if(|word| !word.starts_with('-'));
                    options.timeout = Some(number.map_or(Ok(360), parse)?);
                }
                "-M" => options.netmask = Some(value()?),
                "--pe" => options.engine = Some(parse(value()?)?),
                "-o" => options.one_packet = true,
                "-r" => options.real = Some(value()?),
                "-g" | "-i" | "-m" => options.forwarding = Some(word),
                "--tun-type" => options.tunnel = Some(value()?),
                "--tun-port" => options.tunnel_port = parse(value()?)?,
                "--tun-csum" => options.checksum = true,
                "--tun-remcsum" => options.remote_checksum = true,
                "--tun-nocsum" => {}
                "-w" => options.weight = Some(parse(value()?)?),
                "-x" => options.upper = parse(value()?)?,
                "-y" => options.lower = parse(value()?)?,
                "--mcast-interface" => options.interface = value()?,
                "--syncid" => options.sync_id = parse(value()?)?,
                "--sync-maxlen" => options.max_len = parse(value()?)?,
                "--mcast-group" => options.group = Some(parse(value()?)?),
                "--mcast-port" => options.port = parse(value()?)?,
                "--mcast-ttl" => options.ttl = parse(value()?)?,
                "-n" | "-c" | "--nosort" | "--stats" | "--rate" | "--exact" | "--thresholds"
                | "--persistent-conn" | "--timeout" | "--daemon" => options.listed.push(word),
                other => return Err(format!("unknown option {other:?}")),
            }
        }
        Ok(options)
    }

    fn command(&self) -> Result<Command, String> {
        let key = || self.key();
        Ok(match self.verb {
            "-A" => Command::AddVirtual(self.virtual_server()?),
            "-E" => Command::EditVirtual(self.virtual_server()?),
            "-D" => Command::DeleteVirtual(key()?),
            "-a" => Command::AddReal(key()?, self.real_server()?),
            "-e" => Command::EditReal(key()?, self.real_server()?),
            "-d" => Command::DeleteReal(key()?, self.real_server()?.key),
            "-C" => Command::Flush,
            "-Z" => Command::Zero(self.virtual_server.map(|_| key()).transpose()?),
            "-L" | "-S" if self.listed.contains(&"-c") => Command::ReadVersion,
            "-L" | "-S" if self.listed.contains(&"--timeout") => Command::ReadTimeouts,
            "-L" | "-S" if self.listed.contains(&"--daemon") => Command::ListDaemons,
            "-L" | "-S" if self.virtual_server.is_some() => Command::FindVirtual(key()?),
            "-L" | "-S" => Command::ListVirtual,
            "--set" => {
                let mut numbers = self.values.iter().map(|value| parse::<u32>(value));
                let mut next = || -> Result<Option<NonZeroU32>, String> {
                    Ok(NonZeroU32::new(numbers.next().ok_or("three timeouts")??))
                };
                Command::SetTimeouts(Timeouts { tcp: next()?, tcp_fin: next()?, udp: next()? })
            }
            "--start-daemon" => Command::StartDaemon(self.daemon()?),
            "--stop-daemon" => Command::StopDaemon(self.role()?),
            other => return Err(format!("no command but {other:?}")),
        })
    }

    fn key(&self) -> Result<VirtualKey, String> {
        let (option, text) = self.virtual_server.ok_or("no virtual server")?;
        let protocol = match option {
            "-t" => Protocol::Tcp,
            "-u" => Protocol::Udp,
            "-f" => {
                let family = if self.six { IpFamily::V6 } else { IpFamily::V4 };
                return Ok(VirtualKey::Mark { mark: parse(text)?, family });
            }
            _ => Protocol::Sctp,
        };
        Ok(VirtualKey::new(protocol, socket(text, 0)?))
    }

    fn virtual_server(&self) -> Result<VirtualServer, String> {
        let key = self.key()?;
        let mut server = VirtualServer::new(key, parse(self.scheduler.unwrap_or("wlc"))?);
        let netmask = match self.netmask {
            None => Netmask::host(key.family()),
            Some(mask) if mask.contains('.') => Netmask::from_mask(parse(mask)?),
            Some(length) => Netmask::v6(parse(length)?).map_err(|error| error.to_string())?,
        };
        let persistence = self.timeout.map(|timeout| Persistence::new(Seconds(timeout), netmask));
        server.set_persistence(persistence).map_err(|error| error.to_string())?;
        (server.flags, server.one_packet) = (self.flags, self.one_packet);
        server.engine = self.engine;
        Ok(server)
    }

    fn real_server(&self) -> Result<RealServer, String> {
        let port = match self.key()? {
            VirtualKey::Address { port, .. } => port,
            VirtualKey::Mark { .. } => 0,
        };
        let forwarding = match self.forwarding {
            Some("-m") => Forwarding::Masquerade,
            Some("-i") => Forwarding::Tunnel(self.tunnel()?),
            _ => Forwarding::Direct,
        };
        let mut addr = socket(self.real.ok_or("no real server")?, port)?;
        // Only masquerading can change the port, which `ipvsadm` sees to when it does not delete.
        if self.verb != "-d" && forwarding != Forwarding::Masquerade && port != 0 {
            addr.set_port(port);
        }
        let mut server = RealServer::new(addr, forwarding);
        server.weight = Weight::new(self.weight.unwrap_or(1)).ok_or("the weight is too great")?;
        let thresholds = Thresholds::new(self.lower, self.upper);
        server.thresholds = thresholds.map_err(|error| error.to_string())?;
        Ok(server)
    }

    fn tunnel(&self) -> Result<Tunnel, String> {
        let (checksum, remote_checksum) = (self.checksum, self.remote_checksum);
        match self.tunnel {
            None | Some("ipip") => Ok(Tunnel::Ipip),
            Some("gue") => {
                let port = self.tunnel_port.try_into().map_err(|_| "no tunnel port")?;
                Ok(Tunnel::Gue { port, checksum, remote_checksum })
            }
            Some("gre") => Ok(Tunnel::Gre { checksum }),
            Some(other) => Err(format!("unknown tunnel {other:?}")),
        }
    }

    fn role(&self) -> Result<DaemonRole, String> {
        match self.values.first() {
            Some(&"master") => Ok(DaemonRole::Master),
            Some(&"backup") => Ok(DaemonRole::Backup),
            other => Err(format!("unknown daemon {other:?}")),
        }
    }

    fn daemon(&self) -> Result<Daemon, String> {
        let mut daemon = Daemon::new(self.role()?, parse(self.interface)?, self.sync_id);
        daemon.max_len = self.max_len.try_into().ok();
        (daemon.group, daemon.port) = (self.group, self.port.try_into().ok());
        daemon.ttl = self.ttl.try_into().ok();
        Ok(daemon)
    }
}

/// The short name of an option that has one.
fn short(word: &str) -> &str {
    const NAMES: &[(&str, &str)] = &[
        ("--add-service", "-A"),
        ("--edit-service", "-E"),
        ("--delete-service", "-D"),
        ("--clear", "-C"),
        ("--save", "-S"),
        ("--add-server", "-a"),
        ("--edit-server", "-e"),
        ("--delete-server", "-d"),
        ("--list", "-L"),
        ("--zero", "-Z"),
        ("--tcp-service", "-t"),
        ("--udp-service", "-u"),
        ("--fwmark-service", "-f"),
        ("--ipv6", "-6"),
        ("--scheduler", "-s"),
        ("--sched-flags", "-b"),
        ("--persistent", "-p"),
        ("--netmask", "-M"),
        ("--ops", "-o"),
        ("--real-server", "-r"),
        ("--gatewaying", "-g"),
        ("--ipip", "-i"),
        ("--masquerading", "-m"),
        ("--weight", "-w"),
        ("--u-threshold", "-x"),
        ("--l-threshold", "-y"),
        ("--numeric", "-n"),
        ("--connection", "-c"),
        ("-l", "-L"),
    ];
    NAMES.iter().find(|(long, _)| *long == word).map_or(word, |(_, short)| short)
}

fn flags(text: &str) -> Result<SchedulerFlags, String> {
    let mut flags = SchedulerFlags::default();
    for name in text.split(',') {
        match name {
            "flag-1" | "sh-fallback" | "mh-fallback" => flags.fallback = true,
            "flag-2" | "sh-port" | "mh-port" => flags.port = true,
            "flag-3" => flags.third = true,
            other => return Err(format!("unknown flag {other:?}")),
        }
    }
    Ok(flags)
}

/// An address, in brackets if it is IPv6, and perhaps a port.
fn socket(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match bare {
        Some(ip) => Ok(SocketAddr::new(parse::<Ipv6Addr>(ip)?.into(), port)),
        None => Ok(SocketAddr::new(parse(text)?, port)),
    }
}
