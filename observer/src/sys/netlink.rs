//! All sockets of a network namespace: by sock_diag, or from /proc/PID/net for other namespaces.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, Timer,
};
use netlink_packet_sock_diag::unix::{
    ShowFlags, StateFlags as UnixStates, UnixRequest, UnixResponse, nlas::UnixDiagName,
};
use netlink_packet_sock_diag::{SockDiagMessage, constants};
use netlink_sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_SOCK_DIAG};

use crate::model::Pid;

/// Sockets kept of one namespace.
const MAX_SOCKETS: usize = 1 << 19;
/// The kernel fills at most 32 KiB per answer (`NLMSG_GOODSIZE` rounded up by the reader's size).
const ANSWER: usize = 64 << 10;
/// The kernel answers at once; this is for a kernel that does not.
const TIMEOUT_S: i64 = 2;
/// /proc/net lines read of one table.
const MAX_TABLE: u64 = 256 << 20;

/// Transport of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6.
    Udp,
    /// A unix domain socket.
    Unix,
}

impl Protocol {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
        }
    }
}

/// Both ends of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ends {
    /// IPv4 or IPv6; IPv4-mapped addresses are given as IPv4.
    Inet {
        /// This end.
        local: SocketAddr,
        /// The other end, when connected.
        peer: Option<SocketAddr>,
    },
    /// A unix socket.
    Unix {
        /// The path that it is bound to; an abstract name begins with `@`.
        name: Option<String>,
        /// Inode of the socket at the other end.
        peer: Option<u64>,
    },
}

/// A TCP timer that tells trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Waiting to send again what was not acknowledged; so many times so far.
    Retransmitting(u8),
    /// The peer's window is closed: probing whether it opens.
    ZeroWindow,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFacts {
    /// Transport.
    pub protocol: Protocol,
    /// State in the kernel's numbers (TCP_ESTABLISHED = 1...).
    pub state: u8,
    /// Both ends.
    pub ends: Ends,
    /// Bytes received and not read; of a listening socket: connections not accepted.
    pub receive_queue: u32,
    /// Bytes sent and not acknowledged; of a listening socket: the length of its queue.
    pub send_queue: u32,
    /// What a TCP socket's timer says. Not known from /proc/net.
    pub trouble: Option<Trouble>,
}

impl SocketFacts {
    /// State by name (Linux `include/net/tcp_states.h`).
    pub fn state_name(&self) -> &'static str {
        match self.state {
            1 => "established",
            2 => "syn_sent",
            3 => "syn_recv",
            4 => "fin_wait1",
            5 => "fin_wait2",
            6 => "time_wait",
            7 if self.protocol != Protocol::Tcp => "unconnected",
            7 => "closed",
            8 => "close_wait",
            9 => "last_ack",
            10 => "listen",
            11 => "closing",
            12 => "new_syn_recv",
            13 => "bound",
            _ => "unknown state",
        }
    }
}

/// Sockets by inode.
pub type Sockets = HashMap<u64, SocketFacts>;

/// The network namespace of a process, as the inode of its `ns/net`. Namespaces are the same when
/// the numbers are.
pub fn namespace(pid: Pid) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net"))
        .ok()
        .map(|meta| meta.ino())
}

/// The network namespace of this process.
pub fn own_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/net")
        .ok()
        .map(|meta| meta.ino())
}

/// All sockets of this process's own network namespace, by sock_diag.
///
/// # Errors
/// When the kernel answers none of the questions (no CONFIG_INET_DIAG); a question that it does
/// not answer is left out when another one is answered.
pub fn dump() -> io::Result<Sockets> {
    let mut sockets = Sockets::new();
    let mut failed = None;
    let mut answered = false;
    for family in [constants::AF_INET, constants::AF_INET6] {
        for protocol in [constants::IPPROTO_TCP, constants::IPPROTO_UDP] {
            let request = SockDiagMessage::InetRequest(InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: StateFlags::all(),
                socket_id: if family == constants::AF_INET {
                    SocketId::new_v4()
                } else {
                    SocketId::new_v6()
                },
            });
            let kind = if protocol == constants::IPPROTO_TCP {
                Protocol::Tcp
            } else {
                Protocol::Udp
            };
            match ask(request, kind, &mut sockets) {
                Ok(()) => answered = true,
                Err(error) => failed = Some(error),
            }
        }
    }
    let request = SockDiagMessage::UnixRequest(UnixRequest {
        // Unconnected ones (TCP_CLOSE) too: the crate names only two of the states.
        state_flags: UnixStates::from_bits_retain(u32::MAX),
        inode: 0,
        show_flags: ShowFlags::NAME | ShowFlags::PEER | ShowFlags::RQLEN,
        cookie: [0xff; 8],
    });
    match ask(request, Protocol::Unix, &mut sockets) {
        Ok(()) => answered = true,
        Err(error) => failed = Some(error),
    }
    match failed {
        Some(error) if !answered => Err(error),
        _ => Ok(sockets),
    }
}

fn ask(request: SockDiagMessage, protocol: Protocol, sockets: &mut Sockets) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    set_timeout(&socket)?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(ANSWER);
    loop {
        answer.clear();
        let received = socket.recv(&mut answer, 0)?;
        if received == 0 || parse_answer(&answer, protocol, sockets)? {
            return Ok(());
        }
    }
}

/// One datagram of the answer: whether it was the last one.
fn parse_answer(mut rest: &[u8], protocol: Protocol, sockets: &mut Sockets) -> io::Result<bool> {
    // struct nlmsghdr: its first word is the length of the message (include/uapi/linux/netlink.h).
    while let Some(length) = rest.get(..4).and_then(|b| b.try_into().ok()) {
        let length = u32::from_le_bytes(length) as usize;
        let Some(bytes) = rest.get(..length).filter(|_| length >= 16) else {
            return Ok(false);
        };
        // A message that the crate does not understand costs that one socket.
        if let Ok(message) = NetlinkMessage::<SockDiagMessage>::deserialize(bytes) {
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        Some(_) => Err(error.to_io()),
                        None => Ok(true),
                    };
                }
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    add_inet(&response, protocol, sockets);
                }
                NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(response)) => {
                    add_unix(&response, sockets);
                }
                _ => {}
            }
        }
        // Messages are padded to 4 bytes.
        let Some(next) = rest.get(length.next_multiple_of(4)..) else {
            return Ok(false);
        };
        rest = next;
    }
    Ok(false)
}

fn add(sockets: &mut Sockets, inode: u64, facts: SocketFacts) {
    // Inode 0: a connection that no process holds (time-wait).
    if inode != 0 && sockets.len() < MAX_SOCKETS {
        sockets.insert(inode, facts);
    }
}

fn add_inet(response: &InetResponse, protocol: Protocol, sockets: &mut Sockets) {
    let header = &response.header;
    let id = &header.socket_id;
    add(
        sockets,
        u64::from(header.inode),
        SocketFacts {
            protocol,
            state: header.state,
            ends: inet_ends(
                SocketAddr::new(id.source_address, id.source_port),
                SocketAddr::new(id.destination_address, id.destination_port),
            ),
            receive_queue: header.recv_queue,
            send_queue: header.send_queue,
            trouble: match &header.timer {
                Some(Timer::Retransmit(_, n)) if *n > 0 => Some(Trouble::Retransmitting(*n)),
                Some(Timer::Probe(_)) => Some(Trouble::ZeroWindow),
                _ => None,
            },
        },
    );
}

fn add_unix(response: &UnixResponse, sockets: &mut Sockets) {
    let name = response.name().map(|name| match name {
        UnixDiagName::Pathname(path) => path.to_string_lossy().into_owned(),
        UnixDiagName::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
    });
    add(
        sockets,
        u64::from(response.header.inode),
        SocketFacts {
            protocol: Protocol::Unix,
            state: response.header.state,
            ends: Ends::Unix {
                name,
                peer: response.peer().map(u64::from).filter(|inode| *inode != 0),
            },
            receive_queue: response.receive_queue_size().unwrap_or(0),
            send_queue: response.send_queue_size().unwrap_or(0),
            trouble: None,
        },
    );
}

fn inet_ends(local: SocketAddr, peer: SocketAddr) -> Ends {
    let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    Ends::Inet {
        local: canonical(local),
        peer: (peer.port() != 0).then(|| canonical(peer)),
    }
}

fn set_timeout(socket: &Socket) -> io::Result<()> {
    let timeout = libc::timeval {
        tv_sec: TIMEOUT_S,
        tv_usec: 0,
    };
    // SAFETY: the descriptor is open, and the option is a timeval of the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const timeout).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The sockets of a process's network namespace from /proc/PID/net: for another namespace than our
/// own, where sock_diag can not be asked. Knows neither unix peers nor TCP timers.
pub fn read_tables(pid: Pid) -> Sockets {
    let mut sockets = Sockets::new();
    for (name, protocol) in [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
        ("unix", Protocol::Unix),
    ] {
        // A table that is not there (no IPv6) has no sockets.
        let Ok(file) = File::open(format!("/proc/{pid}/net/{name}")) else {
            continue;
        };
        read_table(file, protocol, &mut sockets);
    }
    sockets
}

fn read_table(table: impl Read, protocol: Protocol, sockets: &mut Sockets) {
    let mut reader = BufReader::new(table.take(MAX_TABLE));
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let row = match protocol {
            Protocol::Unix => unix_row(&text),
            Protocol::Tcp | Protocol::Udp => inet_row(&text, protocol),
        };
        if let Some((inode, facts)) = row {
            add(sockets, inode, facts);
        }
    }
}

/// `sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...` (Linux `net/ipv4/tcp_ipv4.c`).
fn inet_row(line: &str, protocol: Protocol) -> Option<(u64, SocketFacts)> {
    let mut words = line.split_whitespace().skip(1);
    let local = address(words.next()?)?;
    let peer = address(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let (send, receive) = words.next()?.split_once(':')?;
    let inode = words.nth(4)?.parse().ok()?;
    Some((
        inode,
        SocketFacts {
            protocol,
            state,
            ends: inet_ends(local, peer),
            receive_queue: u32::from_str_radix(receive, 16).ok()?,
            send_queue: u32::from_str_radix(send, 16).ok()?,
            trouble: None,
        },
    ))
}

/// `0100007F:1F90`: each 32-bit word of the address in the host's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let hex = ip.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(hex, 16).ok()?.to_le_bytes())
    };
    let ip = if ip.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for at in 0..4 {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// `Num: RefCount Protocol Flags Type St Inode Path` (Linux `net/unix/af_unix.c`).
fn unix_row(line: &str) -> Option<(u64, SocketFacts)> {
    let mut words = line.split_whitespace();
    let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
    let state = words.nth(1)?;
    let inode = words.next()?.parse().ok()?;
    let name = words.next().map(ToOwned::to_owned);
    // SS_CONNECTED = 3; __SO_ACCEPTCON in flags: listening.
    let state = match state {
        _ if flags & 0x0001_0000 != 0 => 10,
        "03" => 1,
        _ => 7,
    };
    Some((
        inode,
        SocketFacts {
            protocol: Protocol::Unix,
            state,
            ends: Ends::Unix { name, peer: None },
            receive_queue: 0,
            send_queue: 0,
            trouble: None,
        },
    ))
}

#[cfg(test)]
#[path = "netlink_tests.rs"]
mod tests;
