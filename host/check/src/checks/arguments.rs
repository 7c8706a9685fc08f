//! Values that arguments cannot have, or seldom have.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use endpoints::manifest::{Parameter, ParameterType};
use endpoints::{Error, ErrorKind, Explanation};
use tracing_subscriber::fmt::MakeWriter;

use super::making::{explain, side_name, sides, working};
use crate::finding::{Verdict, ensure, fails, orderly, skips, told, within};
use crate::subject::{Subject, is_nested, set};

/// Makes an endpoint for each value of each parameter, and shows what comes of it.
fn each_value<'v>(
    subject: &Subject,
    values: impl Fn(&Parameter) -> Vec<Vec<u8>> + 'v,
    judge: impl Fn(&Parameter, &str, &[u8], Result<Explanation, Error>) -> Verdict,
) -> Verdict {
    for (server, role) in sides(subject) {
        let good = working(subject, server)?;
        for parameter in &role.parameters {
            for value in values(parameter) {
                let mut arguments = good.clone();
                set(&mut arguments, &parameter.name, value.clone());
                let short = &value[..value.len().min(40)];
                let what = format!("{}={} ({})", parameter.name, short.escape_ascii(), side_name(server));
                judge(parameter, &what, &value, explain(subject, server, &arguments))?;
            }
        }
    }
    Ok(())
}

pub(super) fn bad_values(subject: &Subject) -> Verdict {
    let values = |parameter: &Parameter| {
        let impossible = impossible(parameter.kind).iter().map(|value| value.to_vec());
        impossible.chain(odd(parameter.kind)).collect()
    };
    each_value(subject, values, |parameter, what, value, explained| match explained {
        Ok(_) if !impossible(parameter.kind).contains(&value) || value.is_empty() && parameter.list => Ok(()),
        Ok(_) => fails(format!("{what} is not refused")),
        Err(error) => {
            let about_a_value = matches!(
                error.kind(),
                ErrorKind::InvalidArgument | ErrorKind::BadNumber | ErrorKind::BadPort | ErrorKind::BadOctal
            );
            let named = error.argument().is_some_and(|named| parameter.is_called(named));
            ensure(named || is_nested(parameter.kind) || !about_a_value, || {
                format!("{what} is refused without naming the argument: {}", told(&error))
            })
        }
    })
}

pub(super) fn odd_values(subject: &Subject) -> Verdict {
    each_value(
        subject,
        |parameter| odd(parameter.kind),
        |_, what, _, explained| match explained {
            Ok(explanation) => explanation_is_sound(what, &explanation),
            Err(error) => orderly(what, &error),
        },
    )
}

fn explanation_is_sound(what: &str, explanation: &Explanation) -> Verdict {
    let empty = explanation.facts.iter().any(|(name, _)| name.is_empty());
    ensure(!empty, || format!("{what}: it tells a fact without a name"))
}

pub(super) fn limits(subject: &Subject) -> Verdict {
    let values = |parameter: &Parameter| -> Vec<Vec<u8>> {
        let number = |limit: Option<u64>, otherwise: u64| limit.unwrap_or(otherwise).to_string().into_bytes();
        match parameter.kind {
            ParameterType::Integer => vec![number(parameter.min, 0), number(parameter.max, u64::MAX)],
            ParameterType::Port => vec![b"0".to_vec(), b"65535".to_vec()],
            ParameterType::Duration => vec![b"0".to_vec(), b"1ns".to_vec(), b"18446744073".to_vec()],
            ParameterType::Mode => vec![b"0".to_vec(), b"7777".to_vec()],
            _ => Vec::new(),
        }
    };
    each_value(subject, values, |_, what, _, explained| match explained {
        Ok(_) => Ok(()),
        Err(error) => orderly(what, &error),
    })
}

/// Values that no parameter of the type can have.
fn impossible(kind: ParameterType) -> &'static [&'static [u8]] {
    match kind {
        ParameterType::Integer => &[b"", b"x", b"-1", b"1.5", b"99999999999999999999"],
        ParameterType::Port => &[b"", b"x", b"-1", b"65536"],
        ParameterType::Duration => &[b"", b"x", b"-1", b"1 parsec"],
        ParameterType::Flag => &[b"", b"2", b"maybe"],
        ParameterType::Mode => &[b"", b"9", b"77777"],
        ParameterType::Ip => &[b"", b"x", b"300.1.1.1"],
        ParameterType::Network => &[b"", b"x", b"10.0.0.0/99"],
        ParameterType::Choice => &[b"", b"no such choice"],
        ParameterType::Client | ParameterType::Server | ParameterType::Rest => &[b"", b"no-such-scheme:x"],
        ParameterType::Path => &[b"", b"a\0b"],
        ParameterType::Text | ParameterType::Host => &[b"\xff\xfe"],
        _ => &[],
    }
}

/// Values that few expect.
fn odd(kind: ParameterType) -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = match kind {
        ParameterType::Text | ParameterType::Bytes | ParameterType::Host | ParameterType::Path => vec![
            Vec::new(),
            b" ".to_vec(),
            b"%s%n".to_vec(),
            b"a\nb".to_vec(),
            "\u{202e}\u{1f980}".as_bytes().to_vec(),
            b"../../x".to_vec(),
            b"a=b:c\\".to_vec(),
            vec![b'a'; 65_536],
        ],
        _ => Vec::new(),
    };
    match kind {
        ParameterType::Bytes => values.extend([b"\0".to_vec(), b"\xff\xfe".to_vec()]),
        ParameterType::Path => values.extend([b"\xff\xfe".to_vec(), b"/".to_vec(), b".".to_vec()]),
        ParameterType::Text | ParameterType::Host => values.push(b"\0".to_vec()),
        _ => {}
    }
    values
}

/// What stands for a secret, and is looked for where it must not be.
const SECRET: &str = "s3cr3t-of-the-check";

pub(super) fn secrets(subject: &Subject) -> Verdict {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let mut any = false;
    tracing::subscriber::with_default(subscriber, || {
        for (server, role) in sides(subject) {
            for parameter in role.parameters.iter().filter(|parameter| parameter.secret) {
                any = true;
                let what = format!("{} ({})", parameter.name, side_name(server));
                secret_is_kept(subject, server, parameter, &what)?;
            }
        }
        Ok(())
    })?;
    let told = log.text();
    ensure(!told.contains(SECRET), || "the value of a secret argument stands in a line of its log".into())?;
    if any { Ok(()) } else { skips("no parameter is a secret") }
}

fn secret_is_kept(subject: &Subject, server: bool, parameter: &Parameter, what: &str) -> Verdict {
    // One that it should take, and one that it may refuse.
    for value in [SECRET.as_bytes().to_vec(), SECRET.repeat(10_000).into_bytes()] {
        let mut arguments = working(subject, server)?;
        set(&mut arguments, &parameter.name, value);
        match explain(subject, server, &arguments) {
            Err(error) => ensure(!error.message().contains(SECRET), || {
                format!("the value of the secret {what} stands in an error")
            })?,
            Ok(explanation) => {
                let told = explanation.facts.iter().any(|(_, value)| value.contains(SECRET));
                ensure(!told, || {
                    format!("the value of the secret {what} stands in what it tells about an endpoint")
                })?;
            }
        }
    }
    Ok(())
}

/// Another value, which does not fit.
const WRONG: &str = "wr0ng-of-the-check";

/// That no secret is told where connections are made: with the right one, and with a wrong one.
pub(super) async fn secrets_told(subject: &Subject) -> Verdict {
    let (client, server) = (subject.role(false)?, subject.role(true)?);
    let both = |parameter: &&Parameter| server.parameter(&parameter.name).is_some_and(|other| other.secret);
    let secrets: Vec<&Parameter> = client.parameters.iter().filter(|one| one.secret).filter(both).collect();
    if secrets.is_empty() {
        return skips("no parameter of both sides is a secret");
    }
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    for parameter in secrets {
        let right = subject.given(&parameter.name, SECRET.as_bytes())?;
        let pair = right.pair().await?;
        for (connection, side) in [(&pair.near, "client"), (&pair.far, "server")] {
            for layer in connection.info().layers() {
                for (name, value) in layer.facts() {
                    let told = String::from_utf8_lossy(value).contains(SECRET);
                    ensure(!told, || {
                        format!("the fact {name} of a {side} connection tells the secret {}", parameter.name)
                    })?;
                }
            }
        }
        drop(pair);
        let name = right.fresh_name();
        let listener = right.listen_around(&Subject::inner(&name, "")).await?;
        let wrong = right.given(&parameter.name, WRONG.as_bytes())?;
        let inner = Subject::inner(&name, "");
        let client = wrong.client_around(&listener, wrong.is_around().then_some(&*inner))?;
        let accepting = async {
            let accepted = within("accepting", listener.accept()).await?;
            Ok(match accepted {
                Ok(incoming) => {
                    within("a handshake with a wrong secret", incoming.into_future()).await?.err()
                }
                Err(error) => Some(error),
            })
        };
        let connecting =
            async { Ok(within("connecting with a wrong secret", client.connect()).await?.err()) };
        let errors: (Option<Error>, Option<Error>) = tokio::try_join!(connecting, accepting)?;
        for error in [errors.0, errors.1].into_iter().flatten() {
            let told = [SECRET, WRONG].iter().any(|secret| error.message().contains(secret));
            ensure(!told, || format!("the error for a wrong secret {} tells it", parameter.name))?;
        }
    }
    let told = log.text();
    ensure(!told.contains(SECRET) && !told.contains(WRONG), || {
        "the value of a secret argument stands in a line of its log".into()
    })
}

/// Log lines in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
