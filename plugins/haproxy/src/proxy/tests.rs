use std::fs;

use serde_json::Value;

use super::*;

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kinds of the recorded cases.
fn name(invalid: Invalid) -> &'static str {
    match invalid {
        Invalid::Signature => "bad-signature",
        Invalid::Protocol => "bad-protocol",
        Invalid::Spacing => "bad-spacing",
        Invalid::MissingField => "missing-field",
        Invalid::ExtraField => "extra-field",
        Invalid::Address => "bad-address",
        Invalid::Port => "bad-port",
        Invalid::LineEnd => "bad-line-end",
        Invalid::TooLong => "too-long",
        Invalid::Version => "bad-version",
        Invalid::Command => "bad-command",
        Invalid::Family => "bad-family",
        Invalid::Transport => "bad-transport",
        Invalid::AddressTooShort => "address-too-short",
        Invalid::Tlv => "bad-tlv",
        Invalid::Checksum => "bad-checksum",
    }
}

fn run(file: &str, count: usize) {
    let path = format!("{}/../../tests/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
    let cases = fs::read_to_string(path).expect("the recorded cases");
    let mut ran = 0;
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        check(&case);
        ran += 1;
    }
    assert_eq!(ran, count, "cases of {file}");
}

#[test]
fn recorded_headers_of_version_1() {
    run("proxy_v1.jsonl", 328);
}

#[test]
fn recorded_headers_of_version_2() {
    run("proxy_v2.jsonl", 382);
}

fn check(case: &Value) {
    let id = case["id"].as_str().unwrap();
    let mut bytes = bytes_of(case["hex"].as_str().unwrap());
    if let Some(byte) = case["then_repeat"]["byte"].as_str() {
        let times = usize::try_from(case["then_repeat"]["times"].as_u64().unwrap()).unwrap();
        bytes.extend(std::iter::repeat_n(bytes_of(byte)[0], times));
    }
    let expect = &case["expect"];
    let whole = parse(&bytes);
    if expect["outcome"] == "accept" {
        let header = whole
            .unwrap_or_else(|problem| panic!("{id}: {problem}"))
            .unwrap_or_else(|| panic!("{id}: waits"));
        is_as_expected(id, &header, expect);
        if let Some(rest) = expect["remaining_hex"].as_str() {
            let rest_len = bytes.len() - header.len;
            assert_eq!(hex_of(&bytes[header.len..]).get(..rest.len()), Some(rest), "{id}");
            assert!(rest_len * 2 >= rest.len());
        }
        // However it is cut into reads: with less of it one waits, with all of it the rest does not matter.
        for cut in (0..bytes.len()).filter(|cut| bytes.len() < 4096 || cut % 97 < 2) {
            match parse(&bytes[..cut]) {
                Ok(None) => assert!(cut < header.len, "{id}: waits for more than {cut}"),
                Ok(Some(early)) => {
                    assert!(cut >= header.len, "{id}: done at {cut}");
                    assert_eq!(early, header, "{id}");
                }
                Err(problem) => panic!("{id}: refused at {cut}: {problem}"),
            }
        }
        return;
    }
    let kind = expect["kind"].as_str().unwrap();
    match (expect["early"].as_str().unwrap(), &whole) {
        ("wait" | "either", Ok(None)) => {}
        ("reject" | "either", Err(problem)) => {
            let two_faults = [
                "bad-spacing",
                "missing-field",
                "extra-field",
                "bad-address",
                "bad-line-end",
                "bad-protocol",
                "bad-port",
            ];
            let same = name(*problem) == kind
                || (two_faults.contains(&kind) && two_faults.contains(&name(*problem)));
            assert!(same, "{id}: {}, not {kind}", name(*problem));
        }
        (early, found) => panic!("{id}: {found:?}, and {early} was expected, for {kind}"),
    }
    // Once refused, always refused; never taken.
    let mut refused = false;
    for cut in 0..=bytes.len() {
        match parse(&bytes[..cut]) {
            Ok(None) => assert!(!refused, "{id}: waits again at {cut}"),
            Ok(Some(header)) => panic!("{id}: taken at {cut}: {header:?}"),
            Err(_) => refused = true,
        }
    }
}

fn is_as_expected(id: &str, header: &Header<'_>, expect: &Value) {
    assert_eq!(u64::from(header.version), expect["version"].as_u64().unwrap(), "{id}");
    assert_eq!(header.len as u64, expect["consumed"].as_u64().unwrap(), "{id}");
    let command = if header.command == Command::Local { "LOCAL" } else { "PROXY" };
    assert_eq!(command, expect["command"].as_str().unwrap(), "{id}");
    let ports = [&expect["src_port"], &expect["dst_port"]].map(Value::as_u64);
    match &header.addresses {
        Addresses::Unknown => assert!(expect["src"].is_null() && expect["dst"].is_null(), "{id}"),
        Addresses::Ip { source, destination, is_datagram } => {
            let transport = if *is_datagram { "DGRAM" } else { "STREAM" };
            assert_eq!(expect["transport"], transport, "{id}");
            assert_eq!(expect["family"], if source.is_ipv4() { "INET" } else { "INET6" }, "{id}");
            for (address, (text, port)) in
                [source, destination].into_iter().zip([&expect["src"], &expect["dst"]].into_iter().zip(ports))
            {
                let expected: std::net::IpAddr = text.as_str().unwrap().parse().unwrap();
                assert_eq!((address.ip(), Some(u64::from(address.port()))), (expected, port), "{id}");
            }
        }
        Addresses::Unix { source, destination, is_datagram } => {
            let transport = if *is_datagram { "DGRAM" } else { "STREAM" };
            assert_eq!(expect["transport"], transport, "{id}");
            assert_eq!(
                (expect["src"]["hex"].as_str().unwrap(), expect["dst"]["hex"].as_str().unwrap()),
                (hex_of(source).as_str(), hex_of(destination).as_str()),
                "{id}"
            );
        }
    }
    let expected: Vec<&Value> = expect["tlvs"].as_array().into_iter().flatten().collect();
    let found: Vec<_> = header.tlvs.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "{id}");
    for (tlv, expected) in found.iter().zip(expected) {
        is_tlv(id, tlv, expected);
        if expected["name"] == "SSL" {
            let ssl = tlv.ssl().expect("SSL");
            assert_eq!(
                (u64::from(ssl.client), u64::from(ssl.verify)),
                (expected["client"].as_u64().unwrap(), expected["verify"].as_u64().unwrap()),
                "{id}"
            );
            let within = expected["sub"].as_array().unwrap();
            assert_eq!(ssl.fields.into_iter().count(), within.len(), "{id}");
            for (field, expected) in ssl.fields.into_iter().zip(within) {
                is_tlv(id, &field, expected);
            }
        } else {
            assert_eq!(tlv.ssl(), None, "{id}");
        }
    }
}

fn is_tlv(id: &str, tlv: &Tlv<'_>, expected: &Value) {
    assert_eq!(u64::from(tlv.kind), expected["type"].as_u64().expect("a type"), "{id}");
    match expected["value_hex"].as_str() {
        Some(hex) => assert_eq!(hex_of(tlv.value), hex, "{id}"),
        None => {
            assert_eq!(tlv.value.len() as u64, expected["value_length"].as_u64().expect("a length"), "{id}");
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    let ip = |source: &str, destination: &str| Addresses::Ip {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        is_datagram: false,
    };
    for addresses in [
        ip("192.0.2.1:5", "192.0.2.2:443"),
        ip("[2001:db8::1]:5", "[2001:db8::2]:443"),
        Addresses::Unix { source: b"", destination: b"/run/a", is_datagram: false },
        Addresses::Unix { source: b"\0name", destination: b"\0other", is_datagram: true },
    ] {
        let bytes = Encoder::new(Command::Proxy, &addresses).with(kind::AUTHORITY, b"h.example").finish();
        let header = parse(&bytes).unwrap().unwrap();
        assert_eq!((header.addresses, header.command, header.len), (addresses, Command::Proxy, bytes.len()));
        assert_eq!(header.tlvs.get(kind::AUTHORITY), Some(&b"h.example"[..]));
        if let Addresses::Ip { .. } = addresses {
            let text = encode_v1(&addresses);
            assert_eq!(parse(text.as_bytes()).unwrap().unwrap().addresses, addresses);
        }
    }
    // Of two families, both are written as IPv6.
    let mixed = ip("192.0.2.1:5", "[::1]:6");
    assert_eq!(encode_v1(&mixed), "PROXY TCP6 ::ffff:192.0.2.1 ::1 5 6\r\n");
    assert_eq!(
        parse(encode_v1(&Addresses::Unknown).as_bytes()).unwrap().unwrap().addresses,
        Addresses::Unknown
    );
    let local = Encoder::new(Command::Local, &Addresses::Unknown).finish();
    assert_eq!(parse(&local).unwrap().unwrap().command, Command::Local);
    // What has no room left is left out.
    let bytes = Encoder::new(Command::Proxy, &Addresses::Unknown)
        .with(9, &[0; 65_535])
        .with(9, &[0; 65_000])
        .with(9, &[0; 600])
        .finish();
    assert!(parse(&bytes).unwrap().is_some());
}
