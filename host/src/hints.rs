//! What somebody probably meant who wrote something that is no description, or forgot to quote the one inside.

use std::borrow::Cow;
use std::net::IpAddr;
use std::str::FromStr;

use crate::grammar::{Description, quote_str};
use crate::manifest::{ParameterType, Role};

/// The description that a text without a known scheme was probably meant to be: a path, a port, an address with its port.
///
/// `listens`: it stands where a server description is wanted.
pub(crate) fn instead_of(description: &Description, listens: bool) -> Option<String> {
    let scheme = String::from_utf8(description.scheme().into_owned()).ok()?;
    let mut parts = description.parts();
    // What is shown again is a path, a port or a host, so it is no secret.
    let Some(port) = parts.next() else {
        return match () {
            () if scheme.starts_with(['/', '.']) => Some(format!("unix:{}", quote_str(&scheme))),
            () if listens && is_port(&scheme) => Some(format!("tcp:{scheme}")),
            () => None,
        };
    };
    let is_lone_port = !port.is_keyword() && parts.next().is_none();
    let port = String::from_utf8(port.value().into_owned()).ok()?;
    if !is_lone_port || !is_port(&port) || !is_host(&scheme) {
        return None;
    }
    match (listens, IpAddr::from_str(&scheme).is_ok() || scheme == "localhost") {
        (false, _) => Some(format!("tcp:{scheme}:{port}")),
        (true, true) => Some(format!(
            "tcp:{port}:interface={}",
            if scheme == "localhost" { "127.0.0.1" } else { &scheme }
        )),
        (true, false) => None,
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Whether it looks like a host's name or IPv4 address, rather than like a scheme with a letter wrong.
fn is_host(text: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    (text == "localhost" || text.contains('.')) && text.bytes().all(letters)
}

/// How to write the description inside, where it seems that its colons were not escaped: the argument that takes it is
/// a lone word, and others follow that this scheme does not take.
///
/// `surplus`: something was given that the scheme does not take.
pub(crate) fn unquoted(description: &Description, role: &Role, surplus: bool) -> Option<String> {
    let nested = |place: usize| {
        let parameter = &role.parameters[place];
        let is_nested =
            matches!(parameter.kind, ParameterType::Client | ParameterType::Server | ParameterType::Rest);
        is_nested.then_some(parameter)
    };
    let by_keyword = description.keywords().find_map(|part| {
        let place = role.parameters.iter().position(|parameter| part.has_key(&parameter.name))?;
        Some((nested(place)?, part))
    });
    let by_position = || {
        description.positional().zip(&role.positions).find_map(|(part, place)| Some((nested(*place)?, part)))
    };
    let (parameter, part) = by_keyword.or_else(by_position)?;
    let value = part.value();
    if value.is_empty() || !value.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    // The rest of it is not shown: it may hold a secret.
    let next = description.parts().find(|next| next.span().start > part.span().start)?;
    // A keyword may be one of this scheme's, which is wrong for another reason.
    (surplus || !next.is_keyword()).then(|| {
        let (name, scheme) = (&parameter.name, String::from_utf8_lossy(&value));
        format!(
            "{name} is a description itself: write each colon in it as \\: as in {name}={scheme}\\:… {IN_A_SHELL}"
        )
    })
}

/// What makes a backslash get here from a command line.
pub(crate) const IN_A_SHELL: &str = "(in a shell, put the whole in single quotes)";

/// That a host is written alone, where it seems to be in a URL: a scheme of URLs is followed by `//`. Where the role has a
/// secret, what looks like a URL may be part of it.
pub(crate) fn in_a_url(description: &Description, role: &Role) -> Option<&'static str> {
    const URLS: [&[u8]; 8] = [b"http", b"https", b"ws", b"wss", b"ftp", b"tcp", b"tls", b"ssl"];
    if role.secrets().next().is_some() {
        return None;
    }
    let values: Vec<_> = description.positional().map(|part| part.value()).collect();
    let is_url = |pair: &[Cow<'_, [u8]>]| URLS.contains(&&*pair[0]) && pair[1].starts_with(b"//");
    values
        .windows(2)
        .any(is_url)
        .then_some("a host is written alone, without the https:// or the like of a URL")
}

/// The argument that was probably meant by the name of one that stands at the same place on the other side of the scheme,
/// such as a Unix server's `path`, which is called `address`.
pub(crate) fn of_the_other_side<'r>(written: &str, this: &'r Role, other: &Role) -> Option<&'r str> {
    let theirs = other.parameter(written).filter(|parameter| parameter.position.is_some())?;
    let ours = this.parameters.iter().find(|parameter| parameter.position == theirs.position)?;
    (ours.kind == theirs.kind).then_some(&ours.name)
}

/// The description of a listener whose address was written before its port, as a client's is.
pub(crate) fn port_first(description: &Description, role: &Role) -> Option<String> {
    let scheme = String::from_utf8(description.scheme().into_owned()).ok()?;
    let first = role.positions.first().map(|place| &role.parameters[*place])?;
    if first.kind != ParameterType::Port || role.parameter("interface").is_none() {
        return None;
    }
    let mut positional = description.positional();
    let host = String::from_utf8(positional.next()?.value().into_owned()).ok()?;
    let port = String::from_utf8(positional.next()?.value().into_owned()).ok()?;
    let is_host = host == "localhost" || IpAddr::from_str(&host).is_ok();
    (is_host && is_port(&port) && description.parts().count() == 2)
        .then(|| format!("{scheme}:{port}:interface={}", quote_str(&host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_beginners_write_is_understood() {
        for (text, client, server) in [
            ("/run/app.sock", Some("unix:/run/app.sock"), Some("unix:/run/app.sock")),
            ("./app.sock", Some("unix:./app.sock"), Some("unix:./app.sock")),
            ("8080", None, Some("tcp:8080")),
            ("localhost:80", Some("tcp:localhost:80"), Some("tcp:80:interface=127.0.0.1")),
            ("127.0.0.1:80", Some("tcp:127.0.0.1:80"), Some("tcp:80:interface=127.0.0.1")),
            ("example.com:443", Some("tcp:example.com:443"), None),
            ("/run/app.sock:password=x", None, None),
            ("/run/app.sock:x", None, None),
            ("tpc:80", None, None),
            ("example.com:http", None, None),
            ("example.com:port=80", None, None),
            ("99999", None, None),
            ("a b.c:80", None, None),
        ] {
            let description = Description::parse(text).unwrap();
            assert_eq!(instead_of(&description, false).as_deref(), client, "{text}");
            assert_eq!(instead_of(&description, true).as_deref(), server, "{text}");
        }
    }
}
