//! Reading PROXY headers, beside the published crates that do.

use std::hint::black_box;
use std::time::Instant;

use endpoints_plugin_haproxy::proxy::{Addresses, Command, Encoder, encode_v1, kind, parse};

use crate::measure::Table;

type Reader = Box<dyn FnMut(&[u8])>;

pub(crate) fn run(quick: bool) {
    let addresses = Addresses::Ip {
        source: "192.168.0.1:56324".parse().expect("an address"),
        destination: "192.168.0.11:443".parse().expect("an address"),
        is_datagram: false,
    };
    let text = encode_v1(&addresses).into_bytes();
    let plain = plain(&addresses);
    let tlvs = with_tlvs(&addresses);
    let (rounds, count) = if quick { (5, 10_000) } else { (51, 200_000) };
    for (title, bytes, ours, target) in [
        ("version 1 (target 40 ns)", &text, read as fn(&[u8]), 40.0),
        ("version 2 (target 10 ns)", &plain, read, 10.0),
        ("version 2, its three TLVs walked (target 15 ns)", &tlvs, walk, 15.0),
    ] {
        let mut readers: Vec<(String, Reader)> = vec![
            ("this".into(), Box::new(ours)),
            ("ppp".into(), Box::new(with_ppp)),
            ("proxy-header".into(), Box::new(with_proxy_header)),
        ];
        let table = Table::measure(&format!("PROXY header of {title}"), "ns", rounds, &mut readers, |read| {
            let begun = Instant::now();
            for _ in 0..count {
                read(black_box(bytes));
            }
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
        });
        table.print(&[]);
        if table.median(0) > target {
            println!("  above the target of {target} ns");
        }
    }
}

/// A header of version 2 without any TLV.
fn plain(addresses: &Addresses<'_>) -> Vec<u8> {
    let mut bytes = Encoder::new(Command::Proxy, addresses).finish();
    // Without the checksum that it ends with.
    bytes.truncate(bytes.len() - 7);
    bytes[15] -= 7;
    bytes
}

fn with_tlvs(addresses: &Addresses<'_>) -> Vec<u8> {
    let mut bytes = plain(addresses);
    for (kind, value) in
        [(kind::ALPN, "h2"), (kind::AUTHORITY, "example.com"), (kind::UNIQUE_ID, "0123456789abcdef")]
    {
        bytes.push(kind);
        bytes.extend([0, u8::try_from(value.len()).expect("short")]);
        bytes.extend(value.as_bytes());
    }
    bytes[15] = u8::try_from(bytes.len() - 16).expect("short");
    bytes
}

// What is read is looked at where it lies: moving a header out of a result copies it, which is nobody's reading.

fn read(bytes: &[u8]) {
    let Ok(Some(header)) = &parse(bytes) else { panic!("no header") };
    black_box(header);
}

fn walk(bytes: &[u8]) {
    let Ok(Some(header)) = &parse(bytes) else { panic!("no header") };
    for tlv in header.tlvs {
        black_box(tlv);
    }
    black_box(&header.addresses);
}

fn with_ppp(bytes: &[u8]) {
    match &ppp::HeaderResult::parse(bytes) {
        ppp::HeaderResult::V1(Ok(header)) => {
            black_box(&header.addresses);
        }
        ppp::HeaderResult::V2(Ok(header)) => {
            for tlv in header.tlvs() {
                black_box(tlv.expect("a TLV"));
            }
            black_box(&header.addresses);
        }
        _ => panic!("no header"),
    }
}

fn with_proxy_header(bytes: &[u8]) {
    let parsed = proxy_header::ProxyHeader::parse(bytes, proxy_header::ParseConfig::default());
    let Ok((header, _)) = &parsed else { panic!("no header") };
    black_box(header.proxied_address());
    black_box(header.authority());
}
