//! An echo backend on every loopback pod address, so that there is something to proxy to.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use svcplane::net::Protocol;
use svcplane::pod::Pod;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::cluster::Cluster;

#[derive(Default)]
pub(crate) struct Demo(BTreeMap<(SocketAddr, Protocol), Backend>);

struct Backend {
    pod: String,
    task: JoinHandle<()>,
}

impl Demo {
    /// Starts the backends of new pods and ends those of pods that are gone. What could not be started.
    pub(crate) async fn update(&mut self, cluster: &Cluster) -> Vec<String> {
        let mut wanted = BTreeMap::new();
        for endpoint in cluster.catalog.services().flat_map(|(_, set)| set.endpoints()) {
            let Some(target) = endpoint.target.as_ref().filter(|_| endpoint.ip.is_loopback())
            else {
                continue;
            };
            for port in endpoint.ports.iter() {
                let key = (SocketAddr::new(endpoint.ip, port.port), port.protocol);
                wanted.insert(key, target.name.to_string());
            }
        }
        for (key, backend) in std::mem::take(&mut self.0) {
            let (addr, _) = key;
            let lives = |pod: &Pod| pod.ips.contains(&addr.ip()) && pod.name.name() == backend.pod;
            if cluster.catalog.pods().any(lives)
                && wanted.get(&key).is_none_or(|pod| *pod == backend.pod)
            {
                self.0.insert(key, backend);
            } else {
                // As when a pod is deleted: its connections end with it.
                backend.task.abort();
                let _ = backend.task.await;
            }
        }
        let mut failures = Vec::new();
        for ((addr, protocol), pod) in wanted {
            if self.0.contains_key(&(addr, protocol)) {
                continue;
            }
            let started = match protocol {
                Protocol::Tcp => TcpListener::bind(addr)
                    .await
                    .map(|listener| tokio::spawn(serve_tcp(listener, pod.clone()))),
                Protocol::Udp => UdpSocket::bind(addr)
                    .await
                    .map(|socket| tokio::spawn(serve_udp(socket, pod.clone()))),
                Protocol::Sctp => continue,
            };
            match started {
                Ok(task) => {
                    self.0.insert((addr, protocol), Backend { pod, task });
                }
                Err(error) => {
                    failures.push(format!("demo backend {pod} on {addr}/{protocol}: {error}"));
                }
            }
        }
        failures
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

async fn serve_udp(socket: UdpSocket, pod: String) {
    let mut buffer = [0; 2048];
    let answer = format!("{pod}\n");
    loop {
        if let Ok((_, client)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(answer.as_bytes(), client).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, pod: String) {
    let pod: Arc<str> = pod.into();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(answer(stream, Arc::clone(&pod)));
                }
                // Out of file descriptors, for one: in a moment there may be some.
                Err(_) => sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers HTTP requests with the pod's name, and any other line with the name and the line.
async fn answer(stream: TcpStream, pod: Arc<str>) -> io::Result<()> {
    const LONGEST: u64 = 16 * 1024;
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut stream).take(LONGEST).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let request = line.trim_end();
        let Some((_, version)) = request.rsplit_once(" HTTP/1.") else {
            stream.write_all(format!("{pod}: {request}\n").as_bytes()).await?;
            continue;
        };
        let mut close = version == "0";
        let head_only = request.starts_with("HEAD ");
        let mut body = 0_u64;
        for _ in 0..200 {
            line.clear();
            if (&mut stream).take(LONGEST).read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            match header.split_once(':') {
                Some(("content-length", length)) => body = length.trim().parse().unwrap_or(0),
                Some(("connection", value)) => close = value.trim() == "close",
                _ => {}
            }
        }
        tokio::io::copy(&mut (&mut stream).take(body), &mut tokio::io::sink()).await?;
        let connection = if close { "close" } else { "keep-alive" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n",
            pod.len() + 1
        );
        if !head_only {
            answer.push_str(&pod);
            answer.push('\n');
        }
        stream.write_all(answer.as_bytes()).await?;
        if close {
            return stream.shutdown().await;
        }
    }
}
