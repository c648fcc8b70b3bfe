//! Tests of descriptor lookup on this process's own descriptors.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use super::*;

fn own() -> Pid {
    Pid(std::process::id())
}

fn owned(fd: i32) -> OwnedFd {
    assert!(fd >= 0);
    // SAFETY: a descriptor just made by the kernel, owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn tcp_sockets_show_both_ends_and_their_state() {
    let mut table = FdTable::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let (local, peer) = (
        client.local_addr().unwrap().to_string(),
        client.peer_addr().unwrap().to_string(),
    );

    let listening = table.resolve_now(own(), listener.as_raw_fd());
    assert_eq!(listening.kind, "socket");
    assert_eq!(listening.local.as_ref(), Some(&peer));
    assert_eq!(listening.peer, None);
    assert_eq!(listening.state.as_deref(), Some("tcp listen"));

    let connected = table.resolve_now(own(), client.as_raw_fd());
    assert_eq!(connected.local.as_ref(), Some(&local));
    assert_eq!(connected.peer.as_ref(), Some(&peer));
    assert_eq!(connected.state.as_deref(), Some("tcp established"));

    assert_eq!(table.host_peer(own(), &local, &peer, &[own()]), Some(own()));
    assert_eq!(table.host_peer(own(), &local, &peer, &[]), None);
    assert_eq!(table.host_peer(own(), "rubbish", &peer, &[own()]), None);
    assert_eq!(table.host_peer(own(), &peer, "192.0.2.1:1", &[own()]), None);
    let facts = table.socket(own(), server.as_raw_fd()).unwrap();
    assert_eq!((facts.receive_queue, facts.send_queue), (0, 0));
}

#[test]
fn ipv6_and_udp_sockets_are_found() {
    let mut table = FdTable::default();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let seen = table.resolve_now(own(), udp.as_raw_fd());
    assert_eq!(seen.local, Some(udp.local_addr().unwrap().to_string()));
    assert_eq!(seen.state.as_deref(), Some("udp unconnected"));
    // A machine without IPv6 has nothing to show.
    if let Ok(listener) = TcpListener::bind("[::1]:0") {
        let seen = table.resolve_now(own(), listener.as_raw_fd());
        assert_eq!(seen.local, Some(listener.local_addr().unwrap().to_string()));
    }
}

#[test]
fn unix_sockets_show_their_path_at_both_ends() {
    let mut table = FdTable::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let text = path.to_str();
    let seen = table.resolve_now(own(), listener.as_raw_fd());
    assert_eq!((seen.path.as_deref(), seen.kind), (text, "socket"));
    assert_eq!(seen.state.as_deref(), Some("unix listen"));
    let (_server, _) = listener.accept().unwrap();
    let seen = table.resolve_now(own(), client.as_raw_fd());
    assert_eq!(seen.peer.as_deref(), text);
    let (a, b) = UnixStream::pair().unwrap();
    let (a, b) = (
        table.resolve_now(own(), a.as_raw_fd()),
        table.resolve_now(own(), b.as_raw_fd()),
    );
    assert!(a.peer.as_deref().unwrap().starts_with("socket:["), "{a:?}");
    assert_ne!(a.peer, b.peer);
}

#[test]
fn files_and_deleted_files_show_their_path() {
    let mut table = FdTable::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.txt");
    let file = File::create(&path).unwrap();
    let seen = table.resolve_now(own(), file.as_raw_fd());
    assert_eq!((seen.kind, seen.path.as_deref()), ("file", path.to_str()));
    assert_eq!(seen.state, None);
    std::fs::remove_file(&path).unwrap();
    let seen = table.resolve_now(own(), file.as_raw_fd());
    assert_eq!(seen.path.as_deref(), path.to_str());
    assert_eq!(seen.state.as_deref(), Some("deleted"));
    let null = File::open("/dev/null").unwrap();
    assert_eq!(table.resolve_now(own(), null.as_raw_fd()).kind, "device");
    let directory = File::open(dir.path()).unwrap();
    let seen = table.resolve_now(own(), directory.as_raw_fd());
    assert_eq!(seen.kind, "directory");
}

#[test]
fn both_ends_of_a_pipe_are_found_among_the_processes_asked_about() {
    let mut table = FdTable::default();
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let writer = child.stdin.take().unwrap();
    let pid = Pid(child.id());
    let seen = table.resolve_now(own(), writer.as_raw_fd());
    assert_eq!(seen.kind, "pipe");
    assert_eq!(seen.state.as_deref(), Some("write end"));
    let read = table.resolve_now(pid, 0);
    assert_eq!(read.state.as_deref(), Some("read end"));
    assert_eq!(read.path, seen.path);
    let ends = table.pipe_ends(pid, 0, &[own(), pid]);
    assert!(ends.contains(&PipeEnd {
        pid: own(),
        fd: writer.as_raw_fd(),
        writes: true
    }));
    assert!(ends.contains(&PipeEnd {
        pid,
        fd: 0,
        writes: false
    }));
    drop(writer);
    child.wait().unwrap();
    // It was seen while it ran.
    assert_eq!(table.resolve_now(pid, 0), read);
    let never = table.resolve_now(pid, 1);
    assert!(never.state.unwrap().contains("exited before"));
}

#[test]
fn epoll_eventfd_timerfd_and_inotify_are_told_apart() {
    let mut table = FdTable::default();
    // SAFETY: these calls take no pointers.
    let (epoll, event, timer, notify) = unsafe {
        (
            owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)),
            owned(libc::eventfd(3, libc::EFD_CLOEXEC)),
            owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0)),
            owned(libc::inotify_init1(libc::IN_CLOEXEC)),
        )
    };
    let mut interest = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 0,
    };
    for fd in [event.as_raw_fd(), timer.as_raw_fd()] {
        // SAFETY: `interest` lives through the call.
        let added = unsafe {
            libc::epoll_ctl(
                epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd,
                &raw mut interest,
            )
        };
        assert_eq!(added, 0);
    }
    let seen = table.resolve_now(own(), epoll.as_raw_fd());
    assert_eq!(seen.kind, "epoll");
    assert_eq!(seen.state.as_deref(), Some("watches 2 descriptors"));
    assert_eq!(table.resolve_now(own(), event.as_raw_fd()).kind, "eventfd");
    assert_eq!(table.resolve_now(own(), timer.as_raw_fd()).kind, "timerfd");
    assert_eq!(table.resolve_now(own(), notify.as_raw_fd()).kind, "inotify");
}

#[test]
fn a_closed_descriptor_answers_with_what_it_was_or_with_the_reason() {
    let mut table = FdTable::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // High, so that no other test takes the number meanwhile.
    // SAFETY: duplicates an open descriptor.
    let fd = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) };
    let fd = owned(fd);
    let number = fd.as_raw_fd();
    let seen = table.resolve_now(own(), number);
    drop(fd);
    assert_eq!(table.resolve_now(own(), number), seen);
    assert_eq!(table.resolve(own(), number), seen);
    let never = table.resolve_now(own(), 100_000);
    assert_eq!(
        never.state.as_deref(),
        Some("closed before it could be looked at")
    );
    assert_eq!(never.fd, Some(100_000));
}

#[test]
fn a_thousand_descriptors_cost_few_tables_of_sockets() {
    let mut table = FdTable::default();
    let sockets: Vec<_> = (0..200)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    for _ in 0..5 {
        for socket in &sockets {
            let seen = table.resolve_now(own(), socket.as_raw_fd());
            assert_eq!(seen.local, Some(socket.local_addr().unwrap().to_string()));
        }
    }
    assert!(table.dumps() < 20, "{}", table.dumps());
}

#[test]
fn names_chosen_by_the_target_are_bounded_and_harmless() {
    assert_eq!(bounded("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    assert!(bounded(&"é".repeat(5000)).len() <= MAX_NAME);
}

#[test]
fn a_number_that_stood_for_several_things_is_shown_with_what_they_have_in_common() {
    let mut table = FdTable::default();
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || {
        let client = TcpStream::connect(address).unwrap();
        (listener.accept().unwrap().0, client)
    };
    let (first, _client) = connect();
    let (second, _other) = connect();
    let number = OwnedFd::from(first);
    let fd = number.as_raw_fd();
    let becomes = |file: i32| {
        // SAFETY: both are open; `number` stays the owner of its number.
        assert_eq!(unsafe { libc::dup2(file, fd) }, fd);
    };

    let seen = table.resolve_now(own(), fd);
    assert!(seen.peer.is_some());
    assert_eq!(table.resolve(own(), fd), seen);
    becomes(second.as_raw_fd());
    let now = table.resolve_now(own(), fd);
    assert_ne!(now.peer, seen.peer);
    assert_eq!(table.latest(own(), fd), now);
    let always = table.resolve(own(), fd);
    assert_eq!((always.kind, always.fd), ("socket", Some(fd)));
    assert_eq!((always.local, always.peer), (seen.local, None));
    assert_eq!(always.state.as_deref(), Some(SEVERAL));

    let file = File::create(dir.path().join("log.txt")).unwrap();
    becomes(file.as_raw_fd());
    let now = table.resolve_now(own(), fd);
    assert_eq!(now.kind, "file");
    let always = table.resolve(own(), fd);
    assert_eq!((always.kind, always.fd), ("descriptor", Some(fd)));
    assert_eq!((always.local, always.path), (None, None));
}

#[test]
fn a_number_that_is_found_closed_again_and_again_was_open_for_others_in_between() {
    let delay = Duration::from_millis(300);
    let mut table = FdTable::new(delay);
    let open = || File::open("/dev/null").unwrap();
    let number = OwnedFd::from(open());
    // Far from the numbers that other tests use.
    // SAFETY: `number` is open.
    let far = owned(unsafe { libc::fcntl(number.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 900) });
    let fd = far.as_raw_fd();
    let seen = table.resolve_now(own(), fd);
    assert_eq!(seen.path.as_deref(), Some("/dev/null"));
    drop(far);
    // Its last waits are looked at after it was closed.
    table.resolve_now(own(), fd);
    assert_eq!(table.resolve(own(), fd), seen);
    table.resolve_now(own(), fd);
    assert_eq!(table.resolve(own(), fd), seen);
    std::thread::sleep(delay);
    table.resolve_now(own(), fd);
    let always = table.resolve(own(), fd);
    assert_eq!((always.kind, always.path), (seen.kind, None));
    assert_eq!(always.state.as_deref(), Some(SEVERAL));

    // First found closed, then open: its first waits were for something else.
    let mut table = FdTable::default();
    table.resolve_now(own(), fd);
    // SAFETY: `number` is open.
    let far = owned(unsafe { libc::fcntl(number.as_raw_fd(), libc::F_DUPFD_CLOEXEC, fd) });
    assert_eq!(far.as_raw_fd(), fd);
    assert_eq!(table.resolve_now(own(), fd).path, seen.path);
    assert_eq!(table.resolve(own(), fd).path, None);
}
