//! Laws of reading PROXY headers, for any bytes.

use endpoints_plugin_haproxy::proxy::{Addresses, Command, Encoder, encode_v1, parse};

/// Checks that a header does not depend on what follows it or on how it is cut, and that what was read can be written.
///
/// # Panics
/// If a law is broken.
pub fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    // Long inputs are cut in few places: at the ends, where things happen.
    let cuts = (0..bytes.len()).filter(|cut| *cut < 300 || bytes.len() - cut < 20);
    let mut refused = None;
    for cut in cuts {
        match parse(&bytes[..cut]) {
            Ok(None) => assert!(refused.is_none(), "waits at {cut} after refusing"),
            Ok(Some(header)) => {
                assert!(header.len <= cut && refused.is_none());
                assert_eq!(whole.as_ref().ok().and_then(Option::as_ref), Some(&header), "cut at {cut}");
            }
            Err(problem) => {
                assert!(!matches!(whole, Ok(Some(_))), "refused at {cut}: {problem}");
                refused = Some(problem);
            }
        }
    }
    let Ok(Some(header)) = whole else { return };
    assert!(header.len <= bytes.len());
    for tlv in header.tlvs {
        if let Some(ssl) = tlv.ssl() {
            assert!(
                ssl.fields.into_iter().map(|field| 3 + field.value.len()).sum::<usize>() + 5
                    == tlv.value.len()
            );
        }
    }
    if header.command == Command::Proxy && header.addresses != Addresses::Unknown {
        let mut encoder = Encoder::new(Command::Proxy, &header.addresses);
        for tlv in header.tlvs {
            encoder = encoder.with(tlv.kind, tlv.value);
        }
        let written = encoder.finish();
        // A checksum inside is that of another header, and the new one wrong with it.
        if header.tlvs.is_empty() {
            let again = parse(&written).expect("our own header").expect("all of it");
            assert_eq!(again.addresses, header.addresses);
        }
        if header.version == 1 {
            let again = encode_v1(&header.addresses);
            let again = parse(again.as_bytes()).expect("our own line").expect("all of it").addresses;
            assert_eq!(again, header.addresses);
        }
    }
}
