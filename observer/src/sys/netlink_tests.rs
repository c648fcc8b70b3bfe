//! Tests of socket tables: made-up rows, damaged answers, a real connection.

use super::*;
use std::net::{TcpListener, TcpStream};

#[test]
fn rows_of_proc_net_are_understood() {
    let line = "   0: 0100007F:1F90 0200007F:C350 01 00000005:0000000A 00:00000000 00000000  \
                1000        0 4242 1 0000000000000000 20 4 30 10 -1";
    let (inode, facts) = inet_row(line, Protocol::Tcp).unwrap();
    assert_eq!(inode, 4242);
    assert_eq!(
        facts.ends,
        Ends::Inet {
            local: "127.0.0.1:8080".parse().unwrap(),
            peer: Some("127.0.0.2:50000".parse().unwrap()),
        }
    );
    assert_eq!((facts.send_queue, facts.receive_queue), (5, 10));
    assert_eq!(facts.state_name(), "established");
    let mapped = address("0000000000000000FFFF00000100007F:0016").unwrap();
    assert_eq!(mapped.ip().to_canonical().to_string(), "127.0.0.1");
    let line = "0000: 00000002 00000000 00010000 0001 01 777 /run/x.sock";
    let (inode, facts) = unix_row(line).unwrap();
    assert_eq!((inode, facts.state_name()), (777, "listen"));
    for rubbish in [
        "",
        "\n",
        "sl local",
        "1: é:é é",
        "0: 0100007F:1F90 01 01 01",
    ] {
        assert!(inet_row(rubbish, Protocol::Tcp).is_none());
        assert!(unix_row(rubbish).is_none());
    }
}

#[test]
fn an_answer_cut_anywhere_does_no_harm() {
    let mut sockets = Sockets::new();
    for length in [0_u32, 1, 15, 16, 20, 1000, u32::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([20, 0, 0, 0].repeat(8));
        for cut in 0..bytes.len() {
            let _last = parse_answer(&bytes[..cut], Protocol::Tcp, &mut sockets);
        }
    }
}

#[test]
fn netlink_and_proc_agree_on_a_connection_of_this_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let wanted = Ends::Inet {
        local: client.local_addr().unwrap(),
        peer: Some(client.peer_addr().unwrap()),
    };
    let pid = Pid(std::process::id());
    let find = |sockets: &Sockets| {
        sockets
            .iter()
            .find(|(_, s)| s.ends == wanted)
            .map(|(inode, s)| (*inode, s.state_name()))
    };
    let by_proc = find(&read_tables(pid));
    assert!(matches!(by_proc, Some((_, "established"))), "{by_proc:?}");
    // A kernel without sock_diag has the tables only.
    if let Ok(sockets) = dump() {
        assert_eq!(find(&sockets), by_proc);
    }
    assert_eq!(namespace(pid), own_namespace());
}
