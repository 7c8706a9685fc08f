//! Descriptions of `tls` that do what those of `ssl` do.

use crate::describe::Description;
use crate::settings::{self, Versions};

/// What stands for a server of `ssl`. `value` gives arguments, or their defaults; `is_given` tells which were written.
pub(crate) fn for_server<'a>(
    value: impl Fn(&str) -> Option<&'a [u8]>,
    is_given: impl Fn(&str) -> bool,
    versions: Versions,
) -> String {
    let value = |name| value(name).unwrap_or_default();
    let mut instead = Description::new("tls");
    instead.add("certificate", value("certKey"));
    if is_given("certKey") {
        instead.add("privateKey", value("privateKey"));
    }
    instead.add("port", value("port"));
    // The defaults differ: all addresses of IPv4, and all of both families.
    let interface = value("interface");
    instead.add("interface", if interface.is_empty() { b"0.0.0.0" } else { interface });
    add_given(&mut instead, &is_given, value, &["backlog", "timeout"]);
    let suites_of_1_2 = settings::suites_of_1_2();
    let is_only_1_2 = versions != settings::VERSIONS;
    let given = String::from_utf8_lossy(value("ciphers"));
    let given = given.split(',').filter(|name| !name.is_empty());
    // In tls, the versions are those of the suites.
    let mut suites: Vec<&str> = given
        .filter(|name| !is_only_1_2 || suites_of_1_2.iter().any(|known| known.eq_ignore_ascii_case(name)))
        .collect();
    if suites.is_empty() && is_only_1_2 {
        suites = suites_of_1_2.iter().map(String::as_str).collect();
    }
    if !suites.is_empty() {
        instead.add("ciphers", suites.join(","));
    }
    let mut advice = String::from_utf8_lossy(instead.text()).into_owned();
    if is_given("extraCertChain") {
        let path = |name| String::from_utf8_lossy(value(name));
        advice.push_str(&format!(
            "; first append the certificates of {} to {}",
            path("extraCertChain"),
            path("certKey")
        ));
    }
    advice
}

/// What stands for a client of `ssl`, of which `inside` is the connection below.
pub(crate) fn for_client<'a>(
    value: impl Fn(&str) -> Option<&'a [u8]>,
    is_given: impl Fn(&str) -> bool,
    inside: &Description,
) -> String {
    let host = value("host").unwrap_or_default();
    let hostname = value("hostname").unwrap_or(host);
    let value = |name| value(name).unwrap_or_default();
    let mut instead = Description::new("tls");
    instead.add("host", hostname);
    instead.add("port", value("port"));
    add_given(&mut instead, &is_given, value, &["timeout", "ciphers"]);
    for (old, new) in [("certKey", "certificate"), ("privateKey", "privateKey"), ("caCertsDir", "trustRoots")]
    {
        if is_given(old) {
            instead.add(new, value(old));
        }
    }
    if hostname != host {
        instead.add("endpoint", inside.text());
    } else if !value("bindAddress").is_empty() {
        instead.add("bindAddress", value("bindAddress"));
    }
    String::from_utf8_lossy(instead.text()).into_owned()
}

fn add_given<'a>(
    instead: &mut Description,
    is_given: impl Fn(&str) -> bool,
    value: impl Fn(&'static str) -> &'a [u8],
    names: &[&'static str],
) {
    for name in names {
        if is_given(name) {
            instead.add(name, value(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments as they are written, or their defaults.
    fn find<'a>(all: &[(&str, &'a str)], name: &str) -> Option<&'a [u8]> {
        all.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
    }

    fn server(given: &[(&str, &'static str)], method: &str) -> String {
        let key = find(given, "privateKey").unwrap_or(b"server.pem");
        let value = |name: &str| {
            find(given, name).or(match name {
                "privateKey" | "certKey" => Some(key),
                "interface" => Some(b"0.0.0.0"),
                "backlog" => Some(b"50"),
                "timeout" => Some(b"30"),
                _ => None,
            })
        };
        let versions = settings::versions_of_method(method).unwrap();
        for_server(value, |name| find(given, name).is_some(), versions)
    }

    #[test]
    fn the_advice_to_servers_leaves_nothing_out() {
        const BOTH: &str = "TLS_METHOD";
        assert_eq!(server(&[("port", "443")], BOTH), "tls:certificate=server.pem:port=443:interface=0.0.0.0");
        let given = [
            ("port", "443"),
            ("privateKey", "k"),
            ("certKey", "c"),
            ("interface", "::1"),
            ("backlog", "7"),
            ("timeout", "5"),
            ("ciphers", "TLS_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            ("extraCertChain", "chain.pem"),
        ];
        let start = r"tls:certificate=c:privateKey=k:port=443:interface=\:\:1:backlog=7:timeout=5:ciphers=";
        let end = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256; first append the certificates of chain.pem to c";
        assert_eq!(server(&given, BOTH), format!("{start}TLS_AES_128_GCM_SHA256,{end}"));
        assert_eq!(server(&given, "TLSv1_2_METHOD"), format!("{start}{end}"));
        let only = server(&[("port", "443")], "TLSv1_2_METHOD");
        let (_, suites) = only.split_once(":ciphers=").unwrap();
        let suites: Vec<_> = suites.split(',').collect();
        assert!(suites.len() >= 6 && suites.iter().all(|name| name.starts_with("TLS_ECDHE_")), "{only}");
    }

    #[test]
    fn the_advice_to_clients_leaves_nothing_out() {
        let given = [("host", "h"), ("port", "1"), ("ciphers", "A,B"), ("timeout", "5"), ("caCertsDir", "d")];
        let client = |given: &[(&str, &'static str)]| {
            let mut inside = Description::new("tcp");
            inside.add("host", "h");
            for_client(|name| find(given, name), |name| find(given, name).is_some(), &inside)
        };
        assert_eq!(client(&given), "tls:host=h:port=1:timeout=5:ciphers=A,B:trustRoots=d");
        let named = [given.as_slice(), &[("hostname", "n"), ("certKey", "c")]].concat();
        assert_eq!(
            client(&named),
            r"tls:host=n:port=1:timeout=5:ciphers=A,B:certificate=c:trustRoots=d:endpoint=tcp\:host\=h"
        );
    }
}
