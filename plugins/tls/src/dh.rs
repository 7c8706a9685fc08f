//! Diffie-Hellman parameters in PEM files: of PKCS #3 (RFC 2631 has the terms), or of X9.42 (RFC 3279, section 2.3.3).

use std::path::Path;

use endpoints_plugin_api::Error;
use x509_parser::der_parser::ber::BerObjectContent;
use x509_parser::der_parser::parse_der;

use crate::pem::{self, Pem};

/// Shorter primes are broken within days.
const SHORTEST: usize = 512;

/// Checks that the file that `argument` names has Diffie-Hellman parameters.
///
/// # Errors
/// If it has none, or cannot be read.
pub(crate) fn check_file(argument: &str, path: &Path) -> Result<(), Error> {
    check(&pem::read(argument, path)?).map_err(|problem| {
        Error::invalid_argument(argument, format!("{argument}: {} {problem}", path.display()))
    })
}

fn check(text: &[u8]) -> Result<(), String> {
    // What is not UTF-8 is no part of a section.
    let text = String::from_utf8_lossy(text);
    let found = [("DH PARAMETERS", 2..=3), ("X9.42 DH PARAMETERS", 3..=5)]
        .into_iter()
        .find_map(|(label, parts)| Some((section(&text, label)?, parts)));
    let Some((body, parts)) = found else {
        return Err("has no Diffie-Hellman parameters: no section of a PEM is labelled DH PARAMETERS".into());
    };
    // The reader decodes sections of kinds that it knows.
    let known = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    let der = Pem::parse(known.as_bytes())
        .ok()
        .and_then(|pem| pem.certificates.into_iter().next())
        .ok_or("has damaged Diffie-Hellman parameters: no base64 stands in their section")?;
    let damaged = || "has damaged Diffie-Hellman parameters: they are no sequence of a prime and a base";
    let (rest, parsed) = parse_der(&der).map_err(|_| damaged())?;
    let sequence = parsed.as_sequence().map_err(|_| damaged())?;
    if !rest.is_empty() {
        return Err("has damaged Diffie-Hellman parameters: bytes stand behind their end".into());
    }
    if !parts.contains(&sequence.len()) {
        return Err(damaged().into());
    }
    let number = |index: usize| match &sequence[index].content {
        // A first bit that is set means a negative one.
        BerObjectContent::Integer(bytes) if bytes.first().is_some_and(|first| first & 0x80 == 0) => {
            Some(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..])
        }
        _ => None,
    };
    let prime = number(0).ok_or_else(damaged)?;
    let base = number(1).ok_or_else(damaged)?;
    let bits = prime.first().map_or(0, |first| prime.len() * 8 - first.leading_zeros() as usize);
    if bits < SHORTEST {
        return Err(format!(
            "has Diffie-Hellman parameters with a prime of {bits} bits; {SHORTEST} is the least, and 2048 or more are usual"
        ));
    }
    if prime.last().is_some_and(|last| last % 2 == 0) {
        return Err("has Diffie-Hellman parameters whose prime is none: it is even".into());
    }
    if matches!(base, [] | [1]) {
        return Err("has Diffie-Hellman parameters whose base is less than 2".into());
    }
    Ok(())
}

/// What stands between the lines around a section of that label.
fn section<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    let (_, behind) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    Some(behind.split_once(&format!("-----END {label}-----"))?.0.trim_matches(['\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DER of one tag; lengths below 65536.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        let length = match content.len() {
            0..128 => vec![low],
            128..256 => vec![0x81, low],
            _ => vec![0x82, high, low],
        };
        [&[tag], length.as_slice(), content].concat()
    }

    fn sequence(numbers: &[&[u8]]) -> Vec<u8> {
        der(0x30, &numbers.iter().flat_map(|number| der(2, number)).collect::<Vec<u8>>())
    }

    fn pem(label: &str, der: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut body = String::new();
        for chunk in der.chunks(3) {
            let bits =
                chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let one = DIGITS[(bits >> (18 - 6 * digit)) as usize & 63];
                body.push(if digit > chunk.len() { '=' } else { char::from(one) });
            }
        }
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn parameters_are_told_from_what_looks_like_them() {
        const LABEL: &str = "DH PARAMETERS";
        let mut prime = vec![0xFF; 256];
        prime.insert(0, 0);
        let good = sequence(&[&prime, &[2]]);
        check(pem(LABEL, &good).as_bytes()).unwrap();
        check(pem(LABEL, &good).replace('\n', "\r\n").as_bytes()).unwrap();
        check(pem(LABEL, &sequence(&[&prime, &[2], &[0, 225]])).as_bytes()).unwrap();
        check(pem("X9.42 DH PARAMETERS", &sequence(&[&prime, &[2], &prime])).as_bytes()).unwrap();
        let mut even = prime.clone();
        *even.last_mut().unwrap() = 0xFE;
        for (text, mention) in [
            (String::new(), "no Diffie-Hellman parameters"),
            (pem("CERTIFICATE", &good), "labelled"),
            (pem("XDH PARAMETERS", &good), "labelled"),
            (pem(LABEL, &good).replace("END DH", "END"), "labelled"),
            (pem(LABEL, &good).replace("MII", "!!!"), "base64"),
            (pem(LABEL, &[good.as_slice(), &[0]].concat()), "behind their end"),
            (pem(LABEL, &sequence(&[&prime])), "no sequence"),
            (pem(LABEL, &sequence(&[&prime, &[2], &[3], &[4]])), "no sequence"),
            (pem(LABEL, &der(0x30, &[der(4, &prime), der(2, &[2])].concat())), "no sequence"),
            (pem(LABEL, &sequence(&[&prime[1..], &[2]])), "no sequence"),
            (pem(LABEL, &sequence(&[&prime[..64], &[2]])), "504 bits"),
            (pem(LABEL, &sequence(&[&even, &[2]])), "even"),
            (pem(LABEL, &sequence(&[&prime, &[1]])), "less than 2"),
            (pem(LABEL, &sequence(&[&prime, &[0]])), "less than 2"),
        ] {
            let problem = check(text.as_bytes()).unwrap_err();
            assert!(problem.contains(mention), "{mention}: {problem}");
        }
    }
}
