//! Large bodies pass with flat memory: 128 MiB each way, or the full GiB where
//! `MESHTRACE_TEST_FULL` is set.

use std::io::{Read, Write};

use crate::support::raw::{Direction, Mesh, Raw};

const MIB: usize = 1024 * 1024;

fn volume() -> usize {
    if std::env::var_os("MESHTRACE_TEST_FULL").is_some() { 1024 * MIB } else { 128 * MIB }
}

/// The memory of this process that is not swapped out, sidecar included.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Blocks of a body, each of which says where in the body it stands.
struct Blocks(Vec<u8>);

const BLOCK: usize = 256 * 1024;

impl Blocks {
    fn new() -> Blocks {
        Blocks((0..BLOCK + 251).map(|i| (i % 251) as u8).collect())
    }

    fn at(&self, start: usize) -> &[u8] {
        let shift = start / BLOCK % 251;
        &self.0[shift..shift + BLOCK]
    }
}

fn write(to: &Raw, total: usize) {
    let blocks = Blocks::new();
    for start in (0..total).step_by(BLOCK) {
        to.socket().write_all(blocks.at(start)).unwrap();
    }
}

/// Reads and checks, and gives the most memory seen meanwhile.
fn read(from: &Raw, total: usize) -> usize {
    let blocks = Blocks::new();
    let mut block = vec![0; BLOCK];
    let mut most = 0;
    for start in (0..total).step_by(BLOCK) {
        from.socket().read_exact(&mut block).unwrap();
        assert!(block == blocks.at(start), "wrong after {start} bytes");
        if start % (8 * MIB) == 0 {
            most = most.max(resident());
        }
    }
    most
}

#[test]
fn a_large_body_passes_both_ways_with_flat_memory() {
    for direction in [Direction::Inbound, Direction::Base] {
        let mesh = Mesh::start(direction);
        let (mut client, mut server) = mesh.pair();
        let total = volume();
        client.send(format!("PUT / HTTP/1.1\r\nHost: {}\r\nContent-Length: {total}\r\n\r\n", mesh.host()));
        server.head();
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"));
        client.head();
        let before = resident();
        let most = std::thread::scope(|scope| {
            scope.spawn(|| write(&client, total));
            scope.spawn(|| write(&server, total));
            let back = scope.spawn(|| read(&client, total));
            read(&server, total).max(back.join().unwrap())
        });
        // Other tests of this process run meanwhile; a buffered body would
        // show as all of it.
        assert!(most < before + total / 2, "{direction:?}: {before} bytes became {most}");
    }
}
