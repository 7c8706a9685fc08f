//! Making endpoints: what the manifest says must be so.

use endpoints::manifest::Role;
use endpoints::{ErrorKind, Explanation};

use crate::finding::{Finding, Step, Verdict, ensure, fails, told};
use crate::probe;
use crate::subject::{Subject, set};
use crate::values::Arguments;

/// The sides that the scheme declares; true for the server's.
pub(super) fn sides(subject: &Subject) -> impl Iterator<Item = (bool, &Role)> {
    let sides = [(false, subject.scheme.client.as_ref()), (true, subject.scheme.server.as_ref())];
    sides.into_iter().filter_map(|(server, role)| Some((server, role?)))
}

pub(super) fn side_name(server: bool) -> &'static str {
    if server { "server" } else { "client" }
}

/// Arguments that work for a side.
pub(super) fn working(subject: &Subject, server: bool) -> Verdict<Arguments> {
    let inner = Subject::inner("inner", "");
    if server { subject.values().server(&inner) } else { subject.values().client(&inner) }
}

/// Makes an endpoint, and explains it.
pub(super) fn explain(
    subject: &Subject,
    server: bool,
    arguments: &Arguments,
) -> Result<Explanation, endpoints::Error> {
    match server {
        true => subject.make_server(arguments).map(|made| made.explain()),
        false => subject.make_client(arguments).map(|made| made.explain()),
    }
}

pub(super) fn schemes(subject: &Subject) -> Verdict {
    let mut skipped = Ok(());
    for (server, _) in sides(subject) {
        let made = match server {
            true => subject.server().map(drop),
            false => subject.client_alone(&Subject::inner("inner", "")).map(drop),
        };
        match made {
            Err(Finding::Skips(reason)) => skipped = Err(Finding::Skips(reason)),
            made => made?,
        }
    }
    skipped
}

pub(super) fn examples(subject: &Subject) -> Verdict {
    for (server, role) in sides(subject) {
        for example in &role.examples {
            let made = match server {
                true => subject.registry.server(example).map(drop),
                false => subject.registry.client(example).map(drop),
            };
            let Err(error) = made else { continue };
            match error.kind() {
                // It may name a file that is only there where it is used.
                ErrorKind::NotFound | ErrorKind::PermissionDenied => {}
                // Or stand around a scheme that works in other surroundings.
                _ if error.scheme().is_some_and(|scheme| scheme != subject.name()) => {}
                _ => {
                    let side = side_name(server);
                    return fails(format!("the example {example} of the {side} side: {}", told(&error)));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn defaults(subject: &Subject) -> Verdict {
    for (server, role) in sides(subject) {
        let bare = working(subject, server)?;
        let Some(implied) = made(explain(subject, server, &bare))? else { continue };
        for parameter in &role.parameters {
            let Some(default) = &parameter.default else { continue };
            if bare.iter().any(|(name, _)| *name == parameter.name) || !parameter.requires.is_empty() {
                continue;
            }
            let in_group = role.one_of.iter().any(|group| group.names.contains(&parameter.name));
            let mut given = bare.clone();
            set(&mut given, &parameter.name, default.clone().into());
            let explicit = match explain(subject, server, &given) {
                // Another of its group may be given already.
                Err(_) if in_group => continue,
                explicit => made(explicit)?,
            };
            let Some(explicit) = explicit else { continue };
            let what = format!("{} of the {} side", parameter.name, side_name(server));
            let values = |explained: &Explanation| {
                let values = explained.arguments.iter().map(|one| (one.name.clone(), one.value.clone()));
                (values.collect::<Vec<_>>(), explained.facts.clone())
            };
            ensure(values(&implied) == values(&explicit), || {
                format!(
                    "giving {what} the value {default}, its default, makes another endpoint than leaving it out"
                )
            })?;
        }
    }
    Ok(())
}

/// The explanation, unless the endpoint needs a file that is not here.
fn made(explained: Result<Explanation, endpoints::Error>) -> Verdict<Option<Explanation>> {
    match explained {
        Ok(explanation) => Ok(Some(explanation)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => fails(format!("an endpoint of valid arguments is refused: {}", told(&error))),
    }
}

pub(super) fn opens_nothing(subject: &Subject) -> Verdict {
    let look = || Ok::<_, std::io::Error>((probe::descriptors()?, probe::threads()?));
    let (open, threads) = look().step("looking at /proc")?;
    let mut endpoints = (Vec::new(), Vec::new());
    for (server, _) in sides(subject) {
        match server {
            true => endpoints.0.push(subject.server()?),
            false => endpoints.1.push(subject.client_alone(&Subject::inner("inner", ""))?),
        }
    }
    let (now_open, now_threads) = look().step("looking at /proc")?;
    let new = now_open.iter().find(|(number, target)| open.get(number) != Some(target));
    if let Some((number, target)) = new {
        return fails(format!("making an endpoint opens the descriptor {number}: {}", target.display()));
    }
    ensure(now_threads <= threads, || "making an endpoint starts a thread".into())
}
