//! Bytes and connections as they are: bulk, ping-pong, connecting, and PROXY headers.

use crate::relay::Relay;
use crate::table::{Needs, Row, Work, print_head};
use crate::work::{self, Front, Way};
use crate::{Bench, idle, peers};

pub(crate) const V1: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 40000 80\r\n";
pub(crate) const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\x9c\x40\0\x50";

/// The header of version 2 with what a proxy in front of a site sends of it; section 2.2 of the PROXY protocol has the types.
fn v2_with_tlvs() -> Vec<u8> {
    let mut header = V2.to_vec();
    let checksum = header.len() + 3;
    let tlvs: [(u8, &[u8]); 4] =
        [(0x03, &[0; 4]), (0x01, b"h2"), (0x02, b"example.com"), (0x05, b"0123456789abcdef")];
    for (kind, value) in tlvs {
        header.extend([kind, 0, u8::try_from(value.len()).expect("short")]);
        header.extend(value);
    }
    let length = u16::try_from(header.len() - 16).expect("short");
    header[14..16].copy_from_slice(&length.to_be_bytes());
    // Of the whole header, with zeroes in its own place.
    let sum = crc32c::crc32c(&header);
    header[checksum..checksum + 4].copy_from_slice(&sum.to_be_bytes());
    header
}

fn rows(bench: &Bench) -> Vec<Row<'_>> {
    let bulk = |name, connections: usize, way| Row {
        name,
        unit: "s/GB",
        rounds: 5,
        needs: if way == Way::Duplex { Needs::HalfCloses } else { Needs::Nothing },
        prepare: Box::new(move |relay: &Relay| bench.bulk(relay.front(), connections, way)),
    };
    let ping_pong = |name, connections: usize| Row {
        name,
        unit: "µs",
        rounds: 7,
        needs: Needs::Nothing,
        prepare: Box::new(move |relay: &Relay| bench.ping_pong(&relay.front(), connections)),
    };
    let proxied = |name, header: Vec<u8>| Row {
        name,
        unit: "µs",
        rounds: 7,
        needs: Needs::Proxy,
        prepare: Box::new(move |relay: &Relay| bench.connects(relay.proxied(&header))),
    };
    let unix = |name, connections: usize| Row {
        name,
        unit: "s/GB",
        rounds: 5,
        needs: Needs::Nothing,
        prepare: Box::new(move |relay: &Relay| {
            bench.bulk(Front::Unix(relay.place.unix()), connections, Way::Up)
        }),
    };
    vec![
        bulk("bulk up, 1 connection", 1, Way::Up),
        bulk("bulk down, 1 connection", 1, Way::Down),
        bulk("bulk up, 8 connections", 8, Way::Up),
        bulk("bulk down, 8 connections", 8, Way::Down),
        bulk("duplex, 1 connection", 1, Way::Duplex),
        bulk("duplex, 8 connections", 8, Way::Duplex),
        ping_pong("ping-pong, 1 connection", 1),
        ping_pong("ping-pong, 64 connections", 64),
        Row {
            name: "connect, a byte, close",
            unit: "µs",
            rounds: 7,
            needs: Needs::Nothing,
            prepare: Box::new(|relay: &Relay| bench.connects(relay.front())),
        },
        proxied("the same behind PROXY v1", V1.to_vec()),
        proxied("the same behind PROXY v2", V2.to_vec()),
        proxied("the same, PROXY v2 with 4 TLVs", v2_with_tlvs()),
        unix("unix bulk, 1 connection", 1),
        unix("unix bulk, 8 connections", 8),
    ]
}

const IDLE: &str = "idle connection, KiB";

pub(crate) fn run(bench: &Bench) {
    let rows: Vec<_> = rows(bench).into_iter().filter(|row| bench.wants(row.name)).collect();
    if rows.is_empty() && !bench.wants(IDLE) {
        return;
    }
    let relays = peers::start(bench);
    print_head("CPU of the relay", &relays);
    println!("{:>12}", "ours/best");
    for row in rows {
        row.measure(&relays, bench.quick);
    }
    if bench.wants(IDLE) {
        let count = if bench.quick { 200 } else { 2_000 };
        idle::memory(IDLE, bench, &relays, count, Relay::front);
    }
}

impl Bench {
    /// Connecting is a part of it, of no weight beside the bytes.
    pub(crate) fn bulk(&self, front: Front, connections: usize, way: Way) -> Work<'_> {
        let each = (if self.quick { 160 << 20 } else { 2 << 30 }) / connections as u64;
        Box::new(move || {
            self.runtime.block_on(work::bulk(&front, connections, each, way));
            (each * connections as u64) as f64 / 1e9
        })
    }

    /// Over connections that are there before.
    pub(crate) fn ping_pong(&self, front: &Front, connections: usize) -> Work<'_> {
        let rounds = (if self.quick { 3_200 } else { 40_000 }) / connections;
        let mut streams = self.runtime.block_on(work::idle(front, connections));
        Box::new(move || {
            self.runtime.block_on(streams.run(rounds));
            (rounds * connections) as f64
        })
    }

    pub(crate) fn connects(&self, front: Front) -> Work<'_> {
        let count = if self.quick { 300 } else { 4_000 };
        Box::new(move || {
            self.runtime.block_on(work::connects(&front, count));
            count as f64
        })
    }
}
