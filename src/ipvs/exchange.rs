//! A command and its answer.

use alloc::vec::Vec;

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};
use thiserror::Error;

use crate::ipvs::wire::{self, Payload};
use crate::ipvs::{Command, CommandError, Reply};

/// A command that was sent, and what of its answer has come.
///
/// ```
/// use svcplane::ipvs::{Command, Exchange, ExchangeError, Reply};
///
/// fn list(
///     family_id: u16,
///     sequence: u32,
///     send: impl FnOnce(&[u8]),
///     mut receive: impl FnMut() -> Vec<u8>,
/// ) -> Result<Vec<Reply>, ExchangeError> {
///     let mut exchange = Exchange::new(Command::ListVirtual, family_id, sequence);
///     send(exchange.request());
///     let mut listed = Vec::new();
///     while !exchange.is_over() {
///         listed.extend(exchange.receive(&receive())?);
///     }
///     Ok(listed)
/// }
///
/// // No virtual server: the end of the list alone.
/// let end = vec![20, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// assert_eq!(list(28, 1, |_| (), || end.clone()), Ok(vec![]));
/// ```
///
/// Messages with another number than the request's are passed over: they answer a request that somebody gave up waiting for. So
/// each request on a socket needs a number of its own, other than 0.
#[derive(Clone, Debug)]
pub struct Exchange {
    command: Command,
    family_id: u16,
    sequence: u32,
    request: Vec<u8>,
    interrupted: bool,
    over: bool,
}

/// An answer is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The kernel has refused the command.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// What was listed has changed meanwhile, and what has come may be neither what there was nor what there is. It is to be asked
    /// again.
    #[error("the list has changed while it was read")]
    Interrupted,
    /// Messages were lost.
    #[error("messages were lost")]
    Overrun,
    /// A message is longer than what was received of it: the buffer was too short.
    #[error("a message is longer than what was received of it: expected a buffer of 32 KiB")]
    Truncated,
    /// A message that answers the request is none that could.
    #[error("message type {message_type}, command {command} is no answer to the request")]
    Unexpected {
        /// The type of the message.
        message_type: u16,
        /// The command in it.
        command: u8,
    },
}

impl Exchange {
    /// A command that is to be sent, with the number of the family and one for the request.
    pub fn new(command: Command, family_id: u16, sequence: u32) -> Self {
        let request = command.encode(family_id, sequence);
        let family_id = command.addressee(family_id);
        Self { command, family_id, sequence, request, interrupted: false, over: false }
    }

    /// The message to be sent.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// The command.
    pub const fn command(&self) -> &Command {
        &self.command
    }

    /// Whether the answer is complete, or an error has ended it.
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Takes what was received at once, one or several messages, and says what is in it. To be called until the
    /// [exchange is over](Self::is_over); what comes after that is passed over.
    ///
    /// # Errors
    ///
    /// The exchange is over then. Of a list what has come before stands, but for [`Interrupted`](ExchangeError::Interrupted).
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Vec<Reply>, ExchangeError> {
        let mut replies = Vec::new();
        let result = self.read(datagram, &mut replies);
        self.over |= result.is_err();
        result.map(|()| replies)
    }

    fn read(&mut self, mut rest: &[u8], replies: &mut Vec<Reply>) -> Result<(), ExchangeError> {
        while !rest.is_empty() && !self.over {
            let (message, behind) =
                wire::split_message(rest).map_err(|_| ExchangeError::Truncated)?;
            rest = behind;
            if message.header.sequence_number == self.sequence {
                replies.extend(self.take(message)?);
            }
        }
        Ok(())
    }

    fn take(&mut self, message: NetlinkMessage<Payload>) -> Result<Option<Reply>, ExchangeError> {
        self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        let status = match message.payload {
            NetlinkPayload::Error(error) => error.raw_code(),
            NetlinkPayload::Done(done) => done.code,
            NetlinkPayload::Overrun(_) => return Err(ExchangeError::Overrun),
            NetlinkPayload::InnerMessage(payload) => {
                let message_type = message.header.message_type;
                return self.answered(message_type, &payload).map(Some);
            }
            _ => return Ok(None),
        };
        self.over = true;
        match status {
            0 if self.interrupted => Err(ExchangeError::Interrupted),
            0.. => Ok(None),
            refused => Err(CommandError::new(&self.command, refused.saturating_neg()).into()),
        }
    }

    fn answered(&self, message_type: u16, payload: &Payload) -> Result<Reply, ExchangeError> {
        let (command, attributes) = payload.split().map_err(|_| ExchangeError::Truncated)?;
        let reply = Reply::decode(&self.command, command, attributes);
        match reply.filter(|_| message_type == self.family_id) {
            Some(reply) => Ok(reply),
            None => Err(ExchangeError::Unexpected { message_type, command }),
        }
    }
}
