//! Runs a tool: no shell, bounded output, in a network namespace if wanted.

use std::boxed::Box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::string::String;
use std::thread;
use std::vec::Vec;
use std::{format, vec};

use super::{KernelError, NetnsName, Refusal};

/// No more is kept of what a tool complains.
const STDERR: u64 = 64 << 10;
/// A line of its output is cut here.
const LINE: u64 = 4 << 10;

/// A tool, and where it is to work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool<'a> {
    pub(super) path: &'a Path,
    pub(super) netns: Option<&'a NetnsName>,
}

/// How a tool ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stderr: String,
}

impl Tool<'_> {
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    fn command(&self) -> Command {
        let Some(netns) = self.netns else { return Command::new(self.path) };
        let mut command = Command::new("nsenter");
        let file = PathBuf::from("/run/netns").join(netns.as_str());
        let mut option = std::ffi::OsString::from("--net=");
        option.push(file);
        command.arg(option).arg("--").arg(self.path);
        command
    }

    /// Runs it to its end, with `input` on its standard input and each line of its output given to `line`.
    pub(super) fn run(
        &self,
        args: &[&str],
        input: &str,
        mut line: impl FnMut(&str),
    ) -> Result<Ended, KernelError> {
        let mut command = self.command();
        command.args(args).env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let tool = || self.name();
        let mut child =
            command.spawn().map_err(|error| KernelError::Start { tool: tool(), error })?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // Each pipe is served by itself: none can fill up while another is waited for.
        let talked = thread::scope(|scope| -> io::Result<String> {
            let writer = thread::Builder::new().spawn_scoped(scope, move || feed(stdin, input))?;
            let complaints =
                thread::Builder::new().spawn_scoped(scope, move || complaints(stderr))?;
            let read = stdout.map_or(Ok(()), |stdout| lines(stdout, &mut line));
            let fed = joined(writer.join());
            let complaints = joined(complaints.join());
            read.and(fed).and(complaints)
        });
        if talked.is_err() {
            // It may be waiting for what does not come.
            let _ = child.kill();
        }
        let ended = child.wait();
        let pipe = |error| KernelError::Pipe { tool: tool(), error };
        let stderr = talked.map_err(pipe)?;
        let status = ended.map_err(pipe)?;
        Ok(Ended { status, stderr })
    }

    /// The same, for a tool that is expected to succeed.
    pub(super) fn succeed(
        &self,
        args: &[&str],
        input: &str,
        line: impl FnMut(&str),
    ) -> Result<(), KernelError> {
        let ended = self.run(args, input, line)?;
        if ended.status.success() { Ok(()) } else { Err(self.refusal(ended, input)) }
    }

    pub(super) fn refusal(&self, ended: Ended, script: &str) -> KernelError {
        let lines = complained_of(&ended.stderr, script);
        let Ended { status, stderr } = ended;
        KernelError::Refused(Box::new(Refusal { tool: self.name(), status, stderr, lines }))
    }
}

fn joined<T>(result: thread::Result<io::Result<T>>) -> io::Result<T> {
    result.unwrap_or_else(|_| Err(io::Error::other("a thread that talks to it panicked")))
}

fn feed(stdin: Option<ChildStdin>, input: &str) -> io::Result<()> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match stdin.write_all(input.as_bytes()) {
        // It ended before it had read all, and says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn complaints(stderr: Option<impl Read>) -> io::Result<String> {
    let Some(mut stderr) = stderr else { return Ok(String::new()) };
    let mut kept = Vec::new();
    stderr.by_ref().take(STDERR).read_to_end(&mut kept)?;
    io::copy(&mut stderr, &mut io::sink())?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

fn lines(stdout: impl Read, line: &mut impl FnMut(&str)) -> io::Result<()> {
    let mut stdout = BufReader::new(stdout);
    let mut buffer = vec![];
    loop {
        buffer.clear();
        if stdout.by_ref().take(LINE).read_until(b'\n', &mut buffer)? == 0 {
            return Ok(());
        }
        line(String::from_utf8_lossy(&buffer).trim_end_matches('\n'));
    }
}

/// The lines of a script that `nft` names, as in `/dev/stdin:3:1-20: Error: No such file or directory`, or `iptables-restore`, as
/// in `Error occurred at line: 3` or `iptables-restore: line 3 failed`, or `ip`, as in `Command failed -:3`.
fn complained_of(stderr: &str, script: &str) -> Vec<(usize, String)> {
    let by_nft = |line: &str| {
        let (place, _) = line.split_once(": Error: ")?;
        let mut parts = place.rsplitn(3, ':');
        let (_columns, number) = (parts.next()?, parts.next()?);
        number.parse::<usize>().ok()
    };
    let by_iptables = |line: &str| {
        let number = match line.rsplit_once("occurred at line: ") {
            Some((_, number)) => number,
            None => line.rsplit_once(": line ")?.1.split(' ').next()?,
        };
        number.trim().trim_end_matches(':').parse::<usize>().ok()
    };
    let by_ip = |line: &str| line.strip_prefix("Command failed -:")?.trim().parse::<usize>().ok();
    let number = |line: &str| {
        by_nft(line).or_else(|| by_iptables(line)).or_else(|| by_ip(line)).filter(|&n| n > 0)
    };
    let mut numbers: Vec<usize> = stderr.lines().filter_map(number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.truncate(8);
    let text = |number: usize| {
        let line = script.lines().nth(number - 1)?.trim();
        let cut = line.char_indices().nth(300).map_or(line.len(), |(at, _)| at);
        let dots = if cut < line.len() { "…" } else { "" };
        Some((number, format!("{}{dots}", &line[..cut])))
    };
    numbers.into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::ToOwned;
    use std::string::ToString;

    use super::*;

    #[test]
    fn the_lines_that_nft_names_are_found() {
        let stderr = "/dev/stdin:2:1-9: Error: syntax error, unexpected string\nfrobnicat\n^^^^^^^^^\n\
                      /dev/stdin:3:8-10: Error: No such file or directory\n\
                      internal:0:0-0: Error: Could not process rule\n";
        let script = "add table ip x\nfrobnicate\nflush table ip y\n";
        let found = complained_of(stderr, script);
        assert_eq!(found, [(2, "frobnicate".to_owned()), (3, "flush table ip y".to_owned())]);
        assert!(complained_of("/dev/stdin:9:1-2: Error: x", script).is_empty());
        for stderr in [
            "iptables-restore v1.8.9 (legacy): Couldn't load target `NOPE':No such file or directory\n\nError occurred at line: 2\nTry ...",
            "iptables-restore: line 2 failed",
            "iptables-nft-restore: line 2 failed: No chain/target/match by that name.",
            "RTNETLINK answers: Cannot assign requested address\nCommand failed -:2",
        ] {
            assert_eq!(complained_of(stderr, script), [(2, "frobnicate".to_owned())], "{stderr}");
        }
    }

    #[test]
    fn output_and_complaints_are_kept_apart() {
        let tool = Tool { path: Path::new("cat"), netns: None };
        let mut got = Vec::new();
        let input = "a line\n".repeat(100_000);
        tool.succeed(&[], &input, |line| got.push(line.to_string())).expect("cat");
        assert_eq!((got.len(), got[0].as_str()), (100_000, "a line"));

        let error = tool.succeed(&["/nowhere/at/all"], &input, |_| ()).expect_err("no such file");
        let KernelError::Refused(refusal) = &error else { panic!("{error}") };
        assert_eq!(refusal.status.code(), Some(1));
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");

        let tool = Tool { path: Path::new("/nowhere/at/all"), netns: None };
        assert!(matches!(tool.run(&[], "", |_| ()), Err(KernelError::Start { .. })));
    }
}
