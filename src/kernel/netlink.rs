//! A socket of generic netlink, and conversations with the kernel over it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::IpvsError;
use crate::ipvs::{Command, Exchange, ExchangeError, Reply};

/// The longest datagram that the kernel makes of a list.
const BUFFER: usize = 32 << 10;
/// What a buffer that was too short grows to, at most.
const LONGEST: usize = 1 << 20;
/// How often a question is asked.
const ATTEMPTS: usize = 4;

/// A socket that is connected to the kernel, so that nobody else's messages come.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    timeout: Duration,
    sequence: u32,
    buffer: Vec<u8>,
    /// Something of an earlier answer may still come.
    unread: bool,
}

impl Socket {
    /// A socket in the network namespace of the calling thread.
    pub(super) fn open(timeout: Duration) -> io::Result<Self> {
        let (family, generic) = (AddressFamily::NETLINK, Some(netlink::GENERIC));
        let fd = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, generic)?;
        connect(&fd, &SocketAddrNetlink::new(0, 0))?;
        Self::over(fd, timeout)
    }

    fn over(fd: OwnedFd, timeout: Duration) -> io::Result<Self> {
        let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_secs(60));
        set_socket_timeout(&fd, Timeout::Recv, Some(timeout))?;
        set_socket_timeout(&fd, Timeout::Send, Some(timeout))?;
        Ok(Self { fd, timeout, sequence: 0, buffer: vec![0; BUFFER], unread: false })
    }

    /// Tells or asks the kernel something, and waits for all of the answer. What only asks is asked again if the answer was not
    /// whole.
    pub(super) fn execute(
        &mut self,
        command: &Command,
        family_id: u16,
    ) -> Result<Vec<Reply>, IpvsError> {
        let mut attempt = 1;
        loop {
            match self.attempt(command, family_id) {
                Err(IpvsError::Answer(
                    ExchangeError::Interrupted | ExchangeError::Overrun | ExchangeError::Truncated,
                )) if attempt < ATTEMPTS && only_asks(command) => attempt += 1,
                result => return result,
            }
        }
    }

    fn attempt(&mut self, command: &Command, family_id: u16) -> Result<Vec<Reply>, IpvsError> {
        self.drain()?;
        // 0 is the number of what the kernel says unasked.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let mut exchange = Exchange::new(*command, family_id, self.sequence);
        let sent = retry(|| send(&self.fd, exchange.request(), SendFlags::empty()));
        sent.map_err(|errno| self.failed(errno))?;
        self.unread = true;
        let mut replies = Vec::new();
        let mut since = Instant::now();
        while !exchange.is_over() {
            let len = self.receive()?;
            let received = exchange.receive(&self.buffer[..len]);
            // A refusal is all of the answer.
            self.unread &= !matches!(received, Err(ExchangeError::Refused(_)));
            let received = received.map_err(IpvsError::Answer)?;
            if !received.is_empty() {
                since = Instant::now();
            } else if !exchange.is_over() && since.elapsed() >= self.timeout {
                return Err(IpvsError::TimedOut(self.timeout));
            }
            replies.extend(received);
        }
        self.unread = false;
        Ok(replies)
    }

    fn receive(&mut self) -> Result<usize, IpvsError> {
        // With this flag the length is that of the datagram, also if the buffer is shorter.
        let received = retry(|| recv(&self.fd, &mut self.buffer[..], RecvFlags::TRUNC));
        let (_, len) = received.map_err(|errno| self.failed(errno))?;
        if len > self.buffer.len() {
            self.buffer.resize(len.min(LONGEST), 0);
            return Err(IpvsError::Answer(ExchangeError::Truncated));
        }
        Ok(len)
    }

    /// Reads away what is left of an answer that was given up. The kernel refuses to begin a list while another one is not read to
    /// its end.
    fn drain(&mut self) -> Result<(), IpvsError> {
        let since = Instant::now();
        while self.unread {
            match recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(Errno::AGAIN) => self.unread = false,
                Err(errno) => return Err(self.failed(errno)),
            }
            if self.unread && since.elapsed() >= self.timeout {
                return Err(IpvsError::TimedOut(self.timeout));
            }
        }
        Ok(())
    }

    fn failed(&self, errno: Errno) -> IpvsError {
        match errno {
            Errno::AGAIN => IpvsError::TimedOut(self.timeout),
            Errno::NOBUFS => IpvsError::Answer(ExchangeError::Overrun),
            errno => IpvsError::Socket(errno.into()),
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Whether nothing is changed by a command.
fn only_asks(command: &Command) -> bool {
    command.is_list()
        || matches!(
            command,
            Command::ResolveFamily
                | Command::ReadVersion
                | Command::FindVirtual(_)
                | Command::ReadTimeouts
        )
}

#[cfg(test)]
mod tests;
