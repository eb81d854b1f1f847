//! The proxy as a process: what it prints, what it holds.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What the proxy is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// At most so many lines are kept of each stream.
const LINES: usize = 50_000;

pub(crate) struct Proxy {
    child: Child,
    id: u32,
    printed: Arc<Output>,
    complained: Arc<Output>,
}

/// The lines of a stream so far.
#[derive(Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    more: Notify,
}

/// What a process holds at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) fds: u64,
    /// Resident memory, bytes.
    pub(crate) rss: u64,
}

impl Proxy {
    /// Starts it with a limit on its file descriptors. Returns when it is ready.
    pub(crate) async fn start(
        binary: &Path,
        descriptors: u64,
        arguments: &[&str],
        manifests: &[PathBuf],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"ulimit -n "$0" && exec "$@""#, &descriptors.to_string()])
            .arg(binary)
            .args(arguments)
            .args(manifests)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("sh")?;
        let id = child.id().context("it ended at once")?;
        let printed = Output::of(child.stdout.take().context("no stdout")?);
        let complained = Output::of(child.stderr.take().context("no stderr")?);
        let proxy = Self { child, id, printed, complained };
        if !proxy.printed.has("ready; ", 0, PATIENCE).await {
            bail!("the proxy is not ready; it said: {}", proxy.complaints(0).join("\n"));
        }
        Ok(proxy)
    }

    /// How many lines it has written to its standard error: a place to look on from.
    pub(crate) fn complained(&self) -> usize {
        self.complained.lines().len()
    }

    /// What it has written to its standard error since.
    pub(crate) fn complaints(&self, since: usize) -> Vec<String> {
        self.complained.lines().iter().skip(since).cloned().collect()
    }

    /// How many lines it has printed: a place to look on from.
    pub(crate) fn printed(&self) -> usize {
        self.printed.lines().len()
    }

    /// Waits for a printed line that holds a text.
    pub(crate) async fn prints(&self, text: &str, since: usize) -> bool {
        self.printed.has(text, since, PATIENCE).await
    }

    pub(crate) fn prints_already(&self, text: &str) -> bool {
        self.printed.lines().iter().any(|line| line.contains(text))
    }

    /// Waits for a complaint that holds a text.
    pub(crate) async fn complains(&self, text: &str, since: usize) -> bool {
        self.complained.has(text, since, PATIENCE).await
    }

    pub(crate) fn sample(&self) -> anyhow::Result<Sample> {
        sample(self.id)
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let sent = Command::new("kill").args([name, &self.id.to_string()]).status().await?;
        if !sent.success() {
            bail!("kill {name}: {sent}");
        }
        Ok(())
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        Ok(ended.context("the proxy does not end")??)
    }
}

pub(crate) fn sample(id: u32) -> anyhow::Result<Sample> {
    let folder = format!("/proc/{id}");
    let fds = std::fs::read_dir(format!("{folder}/fd")).context(folder.clone())?.count() as u64;
    let status = std::fs::read_to_string(format!("{folder}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = rss.and_then(|rss| rss.split_whitespace().next()?.parse::<u64>().ok());
    Ok(Sample { fds, rss: kib.context("no VmRSS")? * 1024 })
}

impl Output {
    fn of(stream: impl AsyncRead + Send + Unpin + 'static) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let filled = Arc::clone(&output);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = filled.lines();
                if kept.len() < LINES {
                    kept.push(line);
                }
                drop(kept);
                filled.more.notify_waiters();
            }
        });
        output
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn has(&self, text: &str, since: usize, patience: Duration) -> bool {
        let found = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if self.lines().iter().skip(since).any(|line| line.contains(text)) {
                    return;
                }
                more.await;
            }
        };
        timeout(patience, found).await.is_ok()
    }
}
