//! Small HTTP servers that answer with their own address.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Answers every request on a socket, for ever.
pub async fn serve(listener: TcpListener) {
    let Ok(addr) = listener.local_addr() else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, addr))),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn answer(stream: TcpStream, addr: SocketAddr) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        // The end of a head; the requests have no bodies.
        if line.is_empty() {
            let body = format!("{addr}\n");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            lines.get_mut().write_all(answer.as_bytes()).await?;
        }
    }
    Ok(())
}
