//! What the proxy is told: two Services, and the pods behind them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::backends::Backends;

/// Where everything of a run is: a folder, and 256 addresses of loopback. The lower half is the backends', the upper the Services'.
pub(crate) struct Place {
    folder: PathBuf,
    net: [u8; 3],
    node_port: u16,
}

impl Place {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let id = std::process::id();
        let folder = std::env::temp_dir().join(format!("svcplane-soak-{id}"));
        fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let [.., middle, low] = id.to_be_bytes();
        let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let node_port = (30_000..32_768).find(is_free).context("no node port is free")?;
        Ok(Self { folder, net: [127, 128 | middle, low], node_port })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn net(&self) -> [u8; 3] {
        self.net
    }

    /// Where Services get their addresses from.
    pub(crate) fn range(&self) -> String {
        format!("{}/25", self.ip(128))
    }

    /// Where the Service is reached that is always there: its address, and its node port.
    pub(crate) fn web(&self) -> [SocketAddr; 2] {
        let [a, b, c] = self.net;
        [([a, b, c, 200], 8080).into(), ([127, 0, 0, 1], self.node_port).into()]
    }

    /// The Service that comes and goes.
    pub(crate) fn other(&self) -> SocketAddr {
        let [a, b, c] = self.net;
        ([a, b, c, 201], 8080).into()
    }

    /// Writes the Services, as an editor does: the file is there whole or not at all.
    pub(crate) fn services(&self, with_other: bool) -> anyhow::Result<()> {
        let other = if with_other {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{ name: other }}\n\
                 spec: {{ clusterIP: {}, selector: {{ app: web }}, ports: [{{ port: 8080, targetPort: {} }}] }}\n",
                self.ip(201),
                Backends::PORT
            )
        } else {
            String::new()
        };
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web }}\n\
             spec: {{ type: NodePort, clusterIP: {}, selector: {{ app: web }}, ports: [{{ port: 8080, \
             targetPort: {}, nodePort: {} }}] }}\n{other}",
            self.ip(200),
            Backends::PORT,
            self.node_port
        );
        self.replace("services.yaml", &text)
    }

    /// A manifest with these pods, ready or not.
    pub(crate) fn pods(&self, numbers: impl IntoIterator<Item = u8>, ready: bool) -> String {
        let mut text = String::new();
        for number in numbers {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: backend-{number}, labels: {{ app: web }} }}\n\
                 spec: {{ containers: [{{ name: c }}] }}\nstatus: {{ phase: Running, podIP: {}, \
                 conditions: [{{ type: Ready, status: {:?} }}] }}\n",
                self.ip(number),
                if ready { "True" } else { "False" }
            );
        }
        text
    }

    /// Puts a file in place of another, whole.
    pub(crate) fn replace(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let temporary = self.folder.join("writing");
        fs::write(&temporary, text)?;
        fs::rename(temporary, self.folder.join(file))?;
        Ok(())
    }

    /// Writes into a file that is there, as `cp` does: for a moment it is empty, then in part.
    pub(crate) fn overwrite(&self, file: &str, text: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.join(file), text)?)
    }

    /// Writes into a file that is there, and stops in the middle for so long.
    pub(crate) async fn write_in_two(
        &self,
        file: &str,
        text: &str,
        cut: usize,
        pause: Duration,
    ) -> anyhow::Result<()> {
        let mut into = fs::File::create(self.folder.join(file))?;
        into.write_all(&text.as_bytes()[..cut])?;
        tokio::time::sleep(pause).await;
        into.write_all(&text.as_bytes()[cut..])?;
        Ok(())
    }

    pub(crate) fn remove(&self, file: &str) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.folder.join(file))?)
    }

    fn ip(&self, last: u8) -> String {
        let [a, b, c] = self.net;
        format!("{a}.{b}.{c}.{last}")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
