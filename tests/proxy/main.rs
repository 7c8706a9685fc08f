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

/// Fields whose values may be any bytes, for us.
const KINDS: [u8; 6] = [kind::ALPN, kind::AUTHORITY, kind::NOOP, kind::UNIQUE_ID, kind::NETNS, 0xe0];

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
        (prop::sample::select(KINDS.to_vec()), prop::collection::vec(any::<u8>(), 0..20)),
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

/// What is compared.
#[derive(Debug, PartialEq)]
struct Told {
    /// How many bytes the header has.
    len: usize,
    /// As text, `None` where they do not count.
    addresses: Option<(String, String)>,
    /// The fields: type and value, `None` where the crate has no value for it.
    tlvs: Vec<(u8, Option<Vec<u8>>)>,
}

impl Told {
    /// The same without what `theirs` has no value for, and without what does not count: all but the length, where there
    /// are no addresses.
    fn comparable_with(mut self, theirs: &mut Self) -> Self {
        for told in [&mut self, theirs] {
            if told.addresses.is_none() {
                told.tlvs.clear();
            }
        }
        for (ours, (_, theirs)) in self.tlvs.iter_mut().zip(&theirs.tlvs) {
            if theirs.is_none() {
                ours.1 = None;
            }
        }
        self
    }
}

fn ours(bytes: &[u8]) -> Option<Told> {
    let header = parse(bytes).ok()??;
    let addresses = match header.addresses {
        Addresses::Ip { source, destination, .. } => Some((source.to_string(), destination.to_string())),
        _ => None,
    };
    let tlvs = header.tlvs.into_iter().map(|tlv| (tlv.kind, Some(tlv.value.to_vec()))).collect();
    Some(Told { len: header.len, addresses, tlvs })
}

fn by_ppp(bytes: &[u8]) -> Option<Told> {
    use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
    let four = |ip, port| SocketAddr::V4(SocketAddrV4::new(ip, port)).to_string();
    let six = |ip, port| SocketAddr::V6(SocketAddrV6::new(ip, port, 0, 0)).to_string();
    match ppp::HeaderResult::parse(bytes) {
        ppp::HeaderResult::V1(header) => {
            let header = header.ok()?;
            let addresses = match header.addresses {
                ppp::v1::Addresses::Tcp4(ip) => Some((
                    four(ip.source_address, ip.source_port),
                    four(ip.destination_address, ip.destination_port),
                )),
                ppp::v1::Addresses::Tcp6(ip) => Some((
                    six(ip.source_address, ip.source_port),
                    six(ip.destination_address, ip.destination_port),
                )),
                ppp::v1::Addresses::Unknown => None,
            };
            Some(Told { len: header.header.len(), addresses, tlvs: Vec::new() })
        }
        ppp::HeaderResult::V2(header) => {
            let header = header.ok()?;
            let addresses = match header.addresses {
                _ if header.command == ppp::v2::Command::Local => None,
                ppp::v2::Addresses::IPv4(ip) => Some((
                    four(ip.source_address, ip.source_port),
                    four(ip.destination_address, ip.destination_port),
                )),
                ppp::v2::Addresses::IPv6(ip) => Some((
                    six(ip.source_address, ip.source_port),
                    six(ip.destination_address, ip.destination_port),
                )),
                _ => None,
            };
            let tlvs = header.tlvs().map_while(Result::ok);
            let tlvs = tlvs.map(|tlv| (tlv.kind, Some(tlv.value.to_vec()))).collect();
            Some(Told { len: header.len(), addresses, tlvs })
        }
    }
}

fn by_proxy_header(bytes: &[u8]) -> Option<Told> {
    let (header, len) = proxy_header::ProxyHeader::parse(bytes, proxy_header::ParseConfig::default()).ok()?;
    let addresses =
        header.proxied_address().map(|address| (address.source.to_string(), address.destination.to_string()));
    // It has no values for what is not as it wants it, and then no types either.
    let mut types = ours(bytes)?.tlvs.into_iter().map(|(kind, _)| kind);
    let tlvs = header.tlvs().map(|tlv| {
        let expected = types.next().unwrap_or_default();
        let Ok(tlv) = tlv else { return (expected, None) };
        let mut bytes = Vec::new();
        tlv.encode(&mut bytes);
        // The bytes of a filler it does not keep.
        (tlv.kind(), Some(bytes.split_off(3)).filter(|_| tlv.kind() != kind::NOOP))
    });
    let tlvs = tlvs.collect();
    Some(Told { len, addresses, tlvs })
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
        for theirs in [by_ppp(&bytes), by_proxy_header(&bytes)] {
            let mut theirs = theirs.expect("a sound header");
            let ours = ours(&bytes).expect("our own header").comparable_with(&mut theirs);
            prop_assert_eq!(theirs, ours);
        }
    }

    /// What is damaged, the others may take where we do not: they check neither checksums nor fields, and take numbers in
    /// other forms. What we take and they take too, all read alike.
    #[test]
    fn damaged_headers_are_never_read_otherwise(bytes in damaged()) {
        for (name, theirs) in [("ppp", by_ppp(&bytes)), ("proxy-header", by_proxy_header(&bytes))] {
            let (Some(ours), Some(mut theirs)) = (ours(&bytes), theirs) else { continue };
            // UNSPEC and UNKNOWN: the addresses in them do not count, for us.
            if ours.addresses.is_none() {
                theirs.addresses = None;
            }
            let ours = ours.comparable_with(&mut theirs);
            prop_assert_eq!(theirs, ours, "{}", name);
        }
    }
}
