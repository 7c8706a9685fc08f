//! Values against the types of parameters.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::error::{Error, ErrorKind, shown};
use crate::manifest::{Parameter, ParameterType};

/// A value that was found to be of its type, in the form that plugins get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) bytes: Vec<u8>,
    pub(crate) number: u64,
}

/// What is wrong with a value; the message follows it, as in `"x" is not a decimal whole number`.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

/// What a check came to.
pub(super) enum Outcome {
    /// The value stands as it is written.
    AsWritten,
    /// It means a number, and stands as it is written.
    Number(u64),
    /// It is written otherwise.
    Normalized(Vec<u8>),
}

/// Checks a value and owns the result; for defaults.
pub(crate) fn check_value(parameter: &Parameter, value: &[u8]) -> Result<Checked, Problem> {
    Ok(match check(parameter, value)? {
        Outcome::AsWritten => Checked { bytes: value.to_vec(), number: 0 },
        Outcome::Number(number) => Checked { bytes: value.to_vec(), number },
        Outcome::Normalized(bytes) => Checked { bytes, number: 0 },
    })
}

pub(super) fn check(parameter: &Parameter, value: &[u8]) -> Result<Outcome, Problem> {
    if parameter.list { list(parameter, value) } else { single(parameter, value) }
}

/// Checks a list, in which the values have commas between them; an empty text is an empty list.
fn list(parameter: &Parameter, value: &[u8]) -> Result<Outcome, Problem> {
    if value.is_empty() {
        return Ok(Outcome::AsWritten);
    }
    let mut normalized = Vec::with_capacity(value.len());
    for (place, element) in value.split(|byte| *byte == b',').enumerate() {
        if element.is_empty() {
            return problem(
                ErrorKind::InvalidArgument,
                format!("is a list whose value {} is empty; values have one comma between them", place + 1),
            );
        }
        let checked = single(parameter, element).map_err(|problem| Problem {
            message: format!("is a list in which {} {}", shown(element), problem.message),
            ..problem
        })?;
        if place > 0 {
            normalized.push(b',');
        }
        match checked {
            Outcome::Normalized(element) => normalized.extend(element),
            Outcome::AsWritten | Outcome::Number(_) => normalized.extend(element),
        }
    }
    Ok(Outcome::Normalized(normalized))
}

fn single(parameter: &Parameter, value: &[u8]) -> Result<Outcome, Problem> {
    match parameter.kind {
        ParameterType::Rest if value.is_empty() => {
            problem(ErrorKind::MissingArgument, "describes no endpoint: it is empty")
        }
        ParameterType::Bytes | ParameterType::Client | ParameterType::Server | ParameterType::Rest => {
            Ok(Outcome::AsWritten)
        }
        ParameterType::Text => text(value).map(|_| Outcome::AsWritten),
        ParameterType::Path => path(value),
        ParameterType::Host => host(value),
        ParameterType::Integer => integer(parameter, value),
        ParameterType::Port => port(parameter, value),
        ParameterType::Duration => duration(value),
        ParameterType::Flag => flag(value),
        ParameterType::Mode => mode(value),
        ParameterType::Ip => ip(value),
        ParameterType::Network => network(value),
        ParameterType::Choice => choice(parameter, value),
    }
}

fn problem<T>(kind: ErrorKind, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { kind, message: message.into() })
}

fn text(value: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(value)
        .map_err(|_| Problem { kind: ErrorKind::InvalidArgument, message: "is not UTF-8 text".into() })
}

fn path(value: &[u8]) -> Result<Outcome, Problem> {
    if value.is_empty() {
        return problem(ErrorKind::MissingArgument, "is no path: it is empty");
    }
    if value.contains(&0) {
        return problem(ErrorKind::InvalidArgument, "has a NUL byte, which no path can have");
    }
    Ok(Outcome::AsWritten)
}

fn host(value: &[u8]) -> Result<Outcome, Problem> {
    let text = text(value)?;
    if text.is_empty() {
        return problem(ErrorKind::MissingArgument, "names no host: it is empty");
    }
    if text.contains('/') {
        return problem(
            ErrorKind::InvalidArgument,
            "is no host name: it has a '/'; a description is no URL, and is written as in tcp:example.com:80",
        );
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return problem(
            ErrorKind::InvalidArgument,
            "is no host name: it has white space or a control character",
        );
    }
    Ok(Outcome::AsWritten)
}

/// Plain ASCII digits; says so where they are something else that other programs would take for a number.
fn digits(value: &[u8]) -> Result<u64, Problem> {
    if value.is_empty() {
        return problem(ErrorKind::BadNumber, "is no number: it is empty");
    }
    if !value.iter().all(u8::is_ascii_digit) {
        return problem(ErrorKind::BadNumber, "is not a decimal whole number; write plain digits, as in 80");
    }
    // Digits are ASCII, so UTF-8; what does not fit is as good as the largest.
    Ok(std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX))
}

fn integer(parameter: &Parameter, value: &[u8]) -> Result<Outcome, Problem> {
    let number = digits(value)?;
    let (min, max) = (parameter.min.unwrap_or(0), parameter.max.unwrap_or(u64::MAX - 1));
    if !(min..=max).contains(&number) {
        let range = match parameter.max {
            Some(max) => format!("{min} to {max}"),
            None => format!("{min} or more"),
        };
        return problem(ErrorKind::BadNumber, format!("is out of range: {range} is accepted"));
    }
    Ok(Outcome::Number(number))
}

fn port(parameter: &Parameter, value: &[u8]) -> Result<Outcome, Problem> {
    let (min, max) = (parameter.min.unwrap_or(0), parameter.max.unwrap_or(u64::MAX).min(65_535));
    let out_of_range = || problem(ErrorKind::BadPort, format!("is no port: {min} to {max} is accepted"));
    if value.strip_prefix(b"-").is_some_and(|positive| digits(positive).is_ok()) {
        return out_of_range();
    }
    match digits(value)? {
        number if (min..=max).contains(&number) => Ok(Outcome::Number(number)),
        _ => out_of_range(),
    }
}

const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("h", 3_600_000_000_000),
];

fn duration(value: &[u8]) -> Result<Outcome, Problem> {
    const FORM: &str =
        "is not a length of time; write seconds, as in 30 or 1.5, or a unit, as in 250ms or 2min";
    let bad = || Problem { kind: ErrorKind::BadNumber, message: FORM.into() };
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, nanos)| text.strip_suffix(suffix).map(|number| (number, *nanos)))
        .unwrap_or((text, 1_000_000_000));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = digits(whole.as_bytes()).map_err(|_| bad())?;
    digits(fraction.as_bytes()).map_err(|_| bad())?;
    // Beyond nine digits a fraction of any unit is below a nanosecond, or below what a clock can tell.
    let mut part = 0_u128;
    let mut scale = 1_u128;
    for digit in fraction.bytes().take(9) {
        part = part * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let nanos = u128::from(whole) * u128::from(unit) + part * u128::from(unit) / scale;
    match u64::try_from(nanos) {
        Ok(nanos) if nanos < u64::MAX => Ok(Outcome::Number(nanos)),
        _ => problem(ErrorKind::BadNumber, "is longer than 584 years, the most that is accepted"),
    }
}

/// Reads a length of time as descriptions write it: bare seconds, as in `30` or `1.5`, or with a unit, as in `250ms`,
/// `2min` (`ns`, `us`, `ms`, `s`, `min`, `h`).
///
/// # Errors
/// [`ErrorKind::BadNumber`] if it is none, or longer than 584 years.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(endpoints::parse_duration("1.5")?, Duration::from_millis(1500));
/// assert_eq!(endpoints::parse_duration("2min")?, Duration::from_secs(120));
/// # Ok::<(), endpoints::Error>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    match duration(text.as_bytes()) {
        Ok(Outcome::Number(nanos)) => Ok(Duration::from_nanos(nanos)),
        Ok(_) => Err(Error::new(ErrorKind::Internal, "a length of time has no number")),
        Err(problem) => {
            Err(Error::new(problem.kind, format!("{} {}", shown(text.as_bytes()), problem.message)))
        }
    }
}

fn flag(value: &[u8]) -> Result<Outcome, Problem> {
    match value {
        b"1" | b"true" => Ok(Outcome::Number(1)),
        b"0" | b"false" => Ok(Outcome::Number(0)),
        _ => problem(ErrorKind::BadNumber, "is not a flag; write 0 or 1 (false or true)"),
    }
}

fn mode(value: &[u8]) -> Result<Outcome, Problem> {
    let octal = value.strip_prefix(b"0o").unwrap_or(value);
    let valid = !octal.is_empty() && octal.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    let number =
        std::str::from_utf8(octal).ok().filter(|_| valid).and_then(|text| u64::from_str_radix(text, 8).ok());
    match number {
        Some(number @ 0..=0o7777) => Ok(Outcome::Number(number)),
        Some(_) => problem(ErrorKind::BadOctal, "has more bits than a mode; 0 to 7777 is accepted"),
        None => problem(ErrorKind::BadOctal, "is not an octal number; write permission bits as in 660"),
    }
}

fn ip(value: &[u8]) -> Result<Outcome, Problem> {
    let address: Option<IpAddr> = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match address {
        Some(address) => Ok(Outcome::Normalized(address.to_string().into_bytes())),
        None => {
            problem(ErrorKind::InvalidArgument, "is no IP address; write one as in 192.0.2.1 or 2001:db8::1")
        }
    }
}

fn network(value: &[u8]) -> Result<Outcome, Problem> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Outcome::Normalized(address.to_string().into_bytes()));
    }
    match text.parse::<IpNet>() {
        Ok(network) if network.addr() == network.network() => {
            Ok(Outcome::Normalized(network.to_string().into_bytes()))
        }
        Ok(network) => problem(
            ErrorKind::InvalidArgument,
            format!("is an address inside of a network, which would be {}", network.trunc()),
        ),
        Err(_) => problem(
            ErrorKind::InvalidArgument,
            "is neither an IP address nor a network; write one as in 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32",
        ),
    }
}

fn choice(parameter: &Parameter, value: &[u8]) -> Result<Outcome, Problem> {
    if parameter.choices.iter().any(|choice| choice.as_bytes() == value) {
        return Ok(Outcome::AsWritten);
    }
    problem(ErrorKind::InvalidArgument, format!("is none of {}", parameter.choices.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(check: fn(&[u8]) -> Result<Outcome, Problem>, text: &str) -> Option<u64> {
        match check(text.as_bytes()) {
            Ok(Outcome::Number(number)) => Some(number),
            Ok(_) => panic!("{text} is no number"),
            Err(_) => None,
        }
    }

    #[test]
    fn ports() {
        let parameter = |more: &str| -> Parameter {
            serde_json::from_str(&format!(r#"{{"name":"p","type":"port"{more}}}"#)).unwrap()
        };
        let any = parameter("");
        let port = |value: &[u8]| port(&any, value);
        let number = |text: &str| match port(text.as_bytes()) {
            Ok(Outcome::Number(number)) => Some(number),
            Ok(_) => panic!("{text} is no number"),
            Err(_) => None,
        };
        let from_one = parameter(r#","min":1"#);
        assert_eq!(super::port(&from_one, b"0").err().unwrap().message, "is no port: 1 to 65535 is accepted");
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("0080"), Some(80));
        assert_eq!(number("65535"), Some(65_535));
        for bad in ["65536", "-1", "", " 80", "8_0", "0x50", "٨٠", "99999999999999999999999"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(port(b"-1").err().unwrap().kind, ErrorKind::BadPort);
        assert_eq!(port(b"x").err().unwrap().kind, ErrorKind::BadNumber);
    }

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("30", 30_000_000_000),
            ("0", 0),
            ("1.5", 1_500_000_000),
            ("250ms", 250_000_000),
            ("2min", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("7us", 7_000),
            ("999999999", 999_999_999_000_000_000),
        ] {
            assert_eq!(number(duration, text), Some(nanos), "{text}");
        }
        for bad in ["", "s", "-1", "1.", ".5", "1.5.2", "5 s", "None", "1e3", "99999999999999", "5d"] {
            assert_eq!(number(duration, bad), None, "{bad}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(number(mode, "666"), Some(0o666));
        assert_eq!(number(mode, "0o600"), Some(0o600));
        assert_eq!(number(mode, "1777"), Some(0o1777));
        for bad in ["", "689", "rw", "-1", "77777", "0x1ff", " 660 ", "0o"] {
            assert_eq!(number(mode, bad), None, "{bad}");
        }
    }

    fn listed(kind: &str) -> Parameter {
        serde_json::from_str(&format!(r#"{{"name":"p","type":"{kind}","list":true}}"#)).unwrap()
    }

    #[test]
    fn lists_are_checked_value_by_value() {
        let check = |kind: &str, text: &str| {
            let checked = check_value(&listed(kind), text.as_bytes());
            checked
                .map(|checked| String::from_utf8(checked.bytes).unwrap())
                .map_err(|problem| problem.message)
        };
        assert_eq!(check("text", "").unwrap(), "");
        assert_eq!(check("text", "h2,http/1.1").unwrap(), "h2,http/1.1");
        assert_eq!(
            check("network", "10.0.0.0/8,0:0::1,2001:DB8::/32").unwrap(),
            "10.0.0.0/8,::1,2001:db8::/32"
        );
        assert!(check("text", "a,,b").unwrap_err().contains("value 2 is empty"));
        assert!(check("text", "a,").unwrap_err().contains("value 2 is empty"));
        assert!(check("network", "10.0.0.0/8,x").unwrap_err().contains("\"x\" is neither"));
        assert!(check("network", "10.1.0.0/8").unwrap_err().contains("10.0.0.0/8"));
        assert!(check("network", "10.0.0.0/33").unwrap_err().contains("neither"));
        assert!(check("port", "80,443,70000").unwrap_err().contains("0 to 65535"));
    }

    #[test]
    fn flags() {
        assert_eq!(number(flag, "1"), Some(1));
        assert_eq!(number(flag, "false"), Some(0));
        assert_eq!(number(flag, "2"), None);
    }
}
