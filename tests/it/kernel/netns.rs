//! Network namespaces, and what runs in them.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use svcplane::kernel::{Conntrack, Iptables, NetnsName, Nft, Variant};

/// What every name begins with; the process follows.
const PREFIX: &str = "svcplane-test-";

/// Whether these tests can run here. Says why not, once for each test.
pub(crate) fn ready(test: &str) -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        sweep_dead();
        missing().err()
    });
    let Some(missing) = missing else { return true };
    assert!(std::env::var_os("SVCPLANE_REQUIRE_KERNEL").is_none(), "{test}: {missing}");
    eprintln!("skipped: {test}: {missing}");
    false
}

fn missing() -> Result<(), String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t0"));
    if !root {
        return Err("needs root, to make network namespaces".to_owned());
    }
    let netns = Netns::try_new("probe")?;
    let mut nft = Nft::new();
    nft.netns = Some(netns.name());
    nft.supported().map_err(|error| format!("needs nft and a kernel with nf_tables: {error}"))?;
    let mut conntrack = Conntrack::new();
    conntrack.netns = Some(netns.name());
    conntrack.udp_flows().map_err(|error| format!("needs conntrack: {error}"))?;
    for variant in [Variant::Nft, Variant::Legacy] {
        let mut iptables = Iptables::new(variant);
        iptables.netns = Some(netns.name());
        iptables.supported().map_err(|error| format!("needs iptables: {error}"))?;
    }
    Ok(())
}

/// Namespaces of processes that are no more.
pub(crate) fn sweep_dead() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _ = ip(&["netns", "del", &name], "");
        }
    }
}

/// A network namespace, deleted with the value.
#[derive(Debug)]
pub(crate) struct Netns {
    name: NetnsName,
    file: File,
}

impl Netns {
    pub(crate) fn new(label: &str) -> Self {
        Self::try_new(label).expect("a network namespace")
    }

    /// A new one, without address or interface but its own loopback, which is down.
    pub(crate) fn try_new(label: &str) -> Result<Self, String> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{label}", std::process::id());
        ip(&["netns", "add", &name], "")?;
        let file = File::open(Path::new("/run/netns").join(&name));
        let file = file.map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name: name.parse().expect("a name"), file })
    }

    pub(crate) fn name(&self) -> NetnsName {
        self.name.clone()
    }

    /// Does something on a thread that is in the namespace. Sockets and processes made there stay in it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.file.as_fd(), kind).expect("a namespace to enter");
                work()
            });
            inside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets kernel parameters, by their paths in `/proc/sys/net`.
    pub(crate) fn set(&self, parameters: &[(&str, &str)]) {
        self.run(|| {
            for (path, value) in parameters {
                let path = Path::new("/proc/sys/net").join(path);
                // Older kernels do not have all of them.
                if path.exists() {
                    let set = fs::write(&path, value);
                    set.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                }
            }
        });
    }

    /// Runs commands of `ip`, one a line; those in the second list with `-6`.
    pub(crate) fn configure(&self, commands: &str, of_ipv6: &str) {
        for (family, commands) in [("-4", commands), ("-6", of_ipv6)] {
            let done = ip(&["-n", self.name.as_str(), family, "-batch", "-"], commands);
            done.unwrap_or_else(|error| panic!("{error}\nin\n{commands}"));
        }
    }
}

impl Netns {
    /// Runs a tool there that has to succeed.
    pub(crate) fn tool(&self, program: &str, args: &[&str], input: &str) {
        let done = self.run(|| run(program, args, input));
        done.unwrap_or_else(|error| panic!("{error}\nwith\n{input}"));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", self.name.as_str()], "") {
            eprintln!("left behind: {error}");
        }
    }
}

fn ip(args: &[&str], input: &str) -> Result<(), String> {
    run("ip", args, input)
}

fn run(program: &str, args: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let said = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not listen it says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    let said = said.map_err(|error| format!("{program}: {error}"))?;
    if said.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&said.stderr).trim()))
}
