//! A DNS server for one zone: UDP and TCP, with EDNS. It forwards nothing. What comes in is bounded, and whatever it is, the
//! server goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode};
use domain::base::message_builder::{AdditionalBuilder, RecordSectionBuilder, StaticCompressor};
use domain::base::name::ToLabelIter;
use domain::base::opt::OptRecord;
use domain::base::wire::Composer;
use domain::base::{
    Message, MessageBuilder, Name as DomainName, ParsedName, Question, Serial, Ttl,
};
use domain::rdata::{A, Aaaa, Cname, Ns, Ptr, Soa, Srv, Txt};
use svcplane::catalog::{Catalog, Changes};
use svcplane::dns::{Config, Name, NameBuf, Record, RecordData, RecordType, Zone};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How much a UDP message of this server has at most: what passes any network unfragmented.
const UDP_SIZE: u16 = 1_232;
/// What every client takes.
const UDP_LEAST: u16 = 512;
/// What an OPT record without options takes.
const OPT_SIZE: usize = 11;
/// How many TCP connections are served at once, and how long one may take for a question and its answer.
const CONNECTIONS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);

/// A zone that follows the manifests while it is asked.
pub(crate) struct Dns {
    zone: RwLock<Zone>,
    turns: AtomicU64,
}

impl Dns {
    pub(crate) fn new(origin: NameBuf, config: Config) -> Self {
        Self { zone: RwLock::new(Zone::new(origin, config)), turns: AtomicU64::new(0) }
    }

    /// Takes up what has changed. What there is now, in words, and what is not told.
    pub(crate) fn follow(&self, catalog: &Catalog, changes: &Changes) -> (String, Vec<String>) {
        let mut zone = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        for name in &changes.services {
            match (catalog.service(name), catalog.endpoints(name)) {
                (Some(service), Some(endpoints)) => zone.upsert(service, endpoints),
                _ => zone.remove(name),
            };
        }
        for name in &changes.pods {
            match catalog.pod(name) {
                Some(pod) => zone.upsert_pod(pod),
                None => zone.remove_pod(name),
            };
        }
        let (records, serial) = (zone.records().count(), zone.serial());
        let told = format!("zone {} has {records} records, serial {serial}", zone.origin());
        (told, zone.warnings().map(|warning| warning.to_string()).collect())
    }

    /// Opens the sockets, and serves as long as the program runs.
    pub(crate) async fn serve(self: &Arc<Self>, addr: SocketAddr) -> io::Result<()> {
        let udp = Arc::new(UdpSocket::bind(addr).await?);
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        let tasks = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..tasks {
            tokio::spawn(serve_udp(Arc::clone(self), Arc::clone(&udp)));
        }
        tokio::spawn(serve_tcp(Arc::clone(self), tcp));
        Ok(())
    }

    /// The answer to a message, written into a buffer; `None` if it deserves none. Without a limit it is one over UDP.
    fn respond(&self, packet: &[u8], limit: Option<u16>, buffer: Vec<u8>) -> Option<Vec<u8>> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        respond(&zone, packet, limit, turn, buffer)
    }
}

async fn serve_udp(dns: Arc<Dns>, socket: Arc<UdpSocket>) {
    let mut packet = [0; 4_096];
    let mut buffer = Vec::new();
    loop {
        // An error is that of an earlier answer whose client is gone.
        let Ok((len, client)) = socket.recv_from(&mut packet).await else { continue };
        if let Some(answer) = dns.respond(&packet[..len], None, std::mem::take(&mut buffer)) {
            let _ = socket.send_to(&answer, client).await;
            buffer = answer;
        }
    }
}

async fn serve_tcp(dns: Arc<Dns>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let dns = Arc::clone(&dns);
                tokio::spawn(async move {
                    let _ = serve_connection(&dns, stream).await;
                    drop(place);
                });
            }
            // Out of file descriptors, for one: in a moment there may be some.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_connection(dns: &Dns, mut stream: TcpStream) -> io::Result<()> {
    let mut packet = Vec::new();
    let mut buffer = Vec::new();
    loop {
        let asked = async {
            let len = stream.read_u16().await?;
            packet.resize(len.into(), 0);
            stream.read_exact(&mut packet).await
        };
        timeout(PATIENCE, asked).await??;
        let Some(answer) = dns.respond(&packet, Some(u16::MAX), buffer) else { return Ok(()) };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut whole = len.to_be_bytes().to_vec();
        whole.extend_from_slice(&answer);
        timeout(PATIENCE, stream.write_all(&whole)).await??;
        buffer = answer;
    }
}

type Builder = AdditionalBuilder<StaticCompressor<Vec<u8>>>;

fn respond(
    zone: &Zone,
    packet: &[u8],
    limit: Option<u16>,
    turn: u64,
    buffer: Vec<u8>,
) -> Option<Vec<u8>> {
    let message = Message::from_octets(packet).ok()?;
    if message.header().qr() {
        return None; // to answer an answer is to invite a storm
    }
    let opt = message.opt();
    let taken = opt.as_ref().map_or(0, OptRecord::udp_payload_size);
    let limit = usize::from(limit.unwrap_or_else(|| taken.clamp(UDP_LEAST, UDP_SIZE)));
    let room = limit - if opt.is_some() { OPT_SIZE } else { 0 };

    let question = match (message.header().opcode(), message.sole_question()) {
        (Opcode::QUERY, Ok(question)) => Ok(question),
        (Opcode::QUERY, Err(_)) => Err(Rcode::FORMERR.into()),
        _ => Err(Rcode::NOTIMP.into()),
    };
    let question = match (question, &opt) {
        (_, Some(opt)) if opt.version() > 0 => Err(OptRcode::BADVERS),
        (Ok(question), _) if question.qclass() != Class::IN => Err(Rcode::REFUSED.into()),
        (question, _) => question,
    };
    let builder = MessageBuilder::from_target(StaticCompressor::new(buffer)).ok()?;
    let mut builder = match &question {
        Ok(question) => answered(zone, &message, question, turn, room, builder),
        Err(_) => builder.additional(),
    };
    let header = builder.header_mut();
    header.set_id(message.header().id());
    header.set_qr(true);
    header.set_opcode(message.header().opcode());
    header.set_rd(message.header().rd());
    let failed = question.err();
    if let Some(code) = failed {
        header.set_rcode(code.rcode());
    }
    if opt.is_some() {
        let pushed = builder.opt(|own| {
            own.set_udp_payload_size(UDP_SIZE);
            if let Some(code) = failed {
                own.set_rcode(code);
            }
            Ok(())
        });
        pushed.ok()?;
    }
    Some(builder.finish().into_target())
}

fn answered(
    zone: &Zone,
    message: &Message<&[u8]>,
    question: &Question<ParsedName<&[u8]>>,
    turn: u64,
    room: usize,
    builder: MessageBuilder<StaticCompressor<Vec<u8>>>,
) -> Builder {
    let name = NameBuf::from_labels(question.qname().iter_labels().filter_map(|label| {
        // The root ends a name here, and goes without saying there.
        (!label.is_root()).then_some(label.as_slice())
    }));
    let Ok(name) = name else {
        return builder.start_error(message, Rcode::FORMERR).additional();
    };
    let kind = RecordType::from(question.qtype().to_int());
    let answer = zone.answer(name.name(), kind, turn).fit(room);
    let mut builder = builder.start_error(message, Rcode::masked_from_int(answer.code().number()));
    let header = builder.header_mut();
    header.set_aa(answer.is_authoritative());
    header.set_tc(answer.is_truncated());
    answer.answers().for_each(|record| push(&mut builder, &record));
    let mut builder = builder.authority();
    answer.authority().for_each(|record| push(&mut builder, &record));
    let mut builder = builder.additional();
    answer.additional().for_each(|record| push(&mut builder, &record));
    builder
}

/// Nothing fails here: there is room for all that was left in the answer, and names are legal.
fn push<T: Composer>(builder: &mut impl RecordSectionBuilder<T>, record: &Record<'_>) {
    let name = |name: Name<'_>| DomainName::from_octets(NameBuf::from(name)).ok();
    let ttl = Ttl::from_secs(record.ttl);
    let Some(owner) = name(record.name) else { return };
    let pushed = match record.data {
        RecordData::A(ip) => builder.push((owner, Class::IN, ttl, A::new(ip))),
        RecordData::Aaaa(ip) => builder.push((owner, Class::IN, ttl, Aaaa::new(ip))),
        RecordData::Cname(to) => {
            let Some(to) = name(to) else { return };
            builder.push((owner, Class::IN, ttl, Cname::new(to)))
        }
        RecordData::Ptr(to) => {
            let Some(to) = name(to) else { return };
            builder.push((owner, Class::IN, ttl, Ptr::new(to)))
        }
        RecordData::Ns(to) => {
            let Some(to) = name(to) else { return };
            builder.push((owner, Class::IN, ttl, Ns::new(to)))
        }
        RecordData::Srv { weight, port, target } => {
            let Some(target) = name(target) else { return };
            builder.push((owner, Class::IN, ttl, Srv::new(0, weight, port, target)))
        }
        RecordData::Txt(text) => {
            let Ok(text) = Txt::<Vec<u8>>::build_from_slice(text.as_bytes()) else { return };
            builder.push((owner, Class::IN, ttl, text))
        }
        RecordData::Soa(soa) => {
            let (Some(server), Some(mailbox)) = (name(soa.name_server), name(soa.mailbox)) else {
                return;
            };
            let times = [soa.refresh, soa.retry, soa.expire, soa.minimum];
            let [refresh, retry, expire, minimum] = times.map(Ttl::from_secs);
            let serial = Serial(soa.serial);
            let soa = Soa::new(server, mailbox, serial, refresh, retry, expire, minimum);
            builder.push((owner, Class::IN, ttl, soa))
        }
        _ => return,
    };
    debug_assert!(pushed.is_ok(), "no room for {record}");
}
