//! Reading PROXY headers: laws, the seeds of the fuzz target, and two published crates that read them too.

use std::fs;

use endpoints_plugin_haproxy::proxy::{Addresses, Command, Encoder, encode_v1, kind, parse};
use endpoints_tests::laws;
use proptest::prelude::*;

#[test]
fn the_seeds_obey_the_laws() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/proxy");
    let mut seeds = 0;
    for entry in fs::read_dir(folder).expect("the seeds") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        laws::proxy::check(&fs::read(path).expect("a seed"));
        seeds += 1;
    }
    assert!(seeds >= 50, "only {seeds} seeds");
}

/// Headers as proxies write them, with fields behind the addresses in version 2.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    let v4 = (any::<[u8; 4]>(), any::<u16>(), any::<[u8; 4]>(), any::<u16>()).prop_map(
        |(source, one, destination, two)| Addresses::Ip {
            source: (source, one).into(),
            destination: (destination, two).into(),
            is_datagram: false,
        },
    );
    let v6 = (any::<[u8; 16]>(), any::<u16>(), any::<[u8; 16]>(), any::<u16>()).prop_map(
        |(source, one, destination, two)| Addresses::Ip {
            source: (source, one).into(),
            destination: (destination, two).into(),
            is_datagram: false,
        },
    );
    let tlvs = prop::collection::vec(
        (
            prop::sample::select(vec![kind::ALPN, kind::AUTHORITY, kind::NETNS, 0xe0]),
            prop::collection::vec(any::<u8>(), 0..20),
        ),
        0..4,
    );
    (prop_oneof![v4, v6], tlvs, any::<bool>()).prop_map(|(addresses, tlvs, is_text)| {
        if is_text {
            return encode_v1(&addresses).into_bytes();
        }
        let encoder = Encoder::new(Command::Proxy, &addresses);
        tlvs.iter().fold(encoder, |encoder, (kind, value)| encoder.with(*kind, value)).finish()
    })
}

/// The same with a byte or two changed, left out or put in.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 0..3);
    (headers(), changes, prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(mut bytes, changes, more)| {
        for (place, change, byte) in changes {
            let place = place.index(bytes.len());
            match change {
                0 => bytes[place] = byte,
                1 => drop(bytes.remove(place)),
                _ => bytes.insert(place, byte),
            }
        }
        bytes.extend(more);
        bytes
    })
}

/// What is compared: the addresses as text, `None` where they do not count.
type Told = Option<(String, String)>;

fn ours(bytes: &[u8]) -> Option<Told> {
    let header = parse(bytes).ok()??;
    Some(match header.addresses {
        Addresses::Ip { source, destination, .. } => Some((source.to_string(), destination.to_string())),
        _ => None,
    })
}

fn by_ppp(bytes: &[u8]) -> Option<Told> {
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    let four = |ip, port| SocketAddr::V4(SocketAddrV4::new(ip, port)).to_string();
    let six = |ip, port| SocketAddr::V6(SocketAddrV6::new(ip, port, 0, 0)).to_string();
    Some(match ppp::HeaderResult::parse(bytes) {
        ppp::HeaderResult::V1(header) => match header.ok()?.addresses {
            ppp::v1::Addresses::Tcp4(ip) => Some((
                four(ip.source_address, ip.source_port),
                four(ip.destination_address, ip.destination_port),
            )),
            ppp::v1::Addresses::Tcp6(ip) => Some((
                six(ip.source_address, ip.source_port),
                six(ip.destination_address, ip.destination_port),
            )),
            ppp::v1::Addresses::Unknown => None,
        },
        ppp::HeaderResult::V2(header) => {
            let header = header.ok()?;
            if header.command == ppp::v2::Command::Local {
                return Some(None);
            }
            match header.addresses {
                ppp::v2::Addresses::IPv4(ip) => Some((
                    four(ip.source_address, ip.source_port),
                    four(ip.destination_address, ip.destination_port),
                )),
                ppp::v2::Addresses::IPv6(ip) => Some((
                    six(ip.source_address, ip.source_port),
                    six(ip.destination_address, ip.destination_port),
                )),
                _ => None,
            }
        }
    })
}

fn by_proxy_header(bytes: &[u8]) -> Option<Told> {
    let (header, _) = proxy_header::ProxyHeader::parse(bytes, proxy_header::ParseConfig::default()).ok()?;
    Some(
        header.proxied_address().map(|address| (address.source.to_string(), address.destination.to_string())),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn laws_of_reading(bytes in prop_oneof![damaged(), prop::collection::vec(any::<u8>(), 0..80)]) {
        laws::proxy::check(&bytes);
    }

    /// What is sound, all three read alike.
    #[test]
    fn sound_headers_are_read_as_others_read_them(bytes in headers()) {
        let ours = ours(&bytes).expect("our own header");
        prop_assert_eq!(by_ppp(&bytes), Some(ours.clone()));
        prop_assert_eq!(by_proxy_header(&bytes), Some(ours));
    }

    /// What is damaged, the others may take where we do not: they check neither checksums nor fields, and take numbers in
    /// other forms. What we take and they take too, all read alike.
    #[test]
    fn damaged_headers_are_never_read_otherwise(bytes in damaged()) {
        let Some(ours) = ours(&bytes) else { return Ok(()) };
        for (name, theirs) in [("ppp", by_ppp(&bytes)), ("proxy-header", by_proxy_header(&bytes))] {
            // UNSPEC and UNKNOWN: the addresses in them do not count, for us.
            if let (Some(theirs), Some(_)) = (theirs, &ours) {
                prop_assert_eq!(Some(&theirs), Some(&ours), "{}", name);
            }
        }
    }
}
