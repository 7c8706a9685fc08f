//! What can be said about a file without running any of it.

use std::fs;

use endpoints::manifest::{Manifest, Parameter};
use endpoints::{PluginReport, PluginState, Refusal, RefusalKind, Registry};
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{Dyn as _, FileHeader as _};
use object::{Endianness, Object as _, ObjectSymbol as _};

use crate::finding::{Finding, Verdict, ensure, fails, warns};
use crate::task::Task;

/// What the loader finds, before it would load anything; a panic policy is a check of its own.
fn inspect(task: &Task, allow_abort: bool) -> Result<Vec<PluginReport>, Refusal> {
    let registry = Registry::builder().default_plugin_path(false).allow_abort(allow_abort).build();
    let registry =
        registry.map_err(|error| Refusal { kind: RefusalKind::Io, message: error.message().to_owned() })?;
    registry.inspect_file(&task.file)
}

/// The refusals of the file, or of the plugins in it.
fn refusals(task: &Task, allow_abort: bool) -> Vec<Refusal> {
    match inspect(task, allow_abort) {
        Err(refusal) => vec![refusal],
        Ok(plugins) => plugins
            .into_iter()
            .filter_map(|plugin| match plugin.state {
                PluginState::Refused(refusal) => Some(refusal),
                _ => None,
            })
            .collect(),
    }
}

fn none_of(task: &Task, kinds: &[RefusalKind]) -> Verdict {
    let found = refusals(task, true).into_iter().find(|refusal| kinds.contains(&refusal.kind));
    found.map_or(Ok(()), |refusal| fails(refusal.message))
}

pub(super) fn sound(task: &Task) -> Verdict {
    use RefusalKind::{Io, NotAnObject, Untrusted, WrongTarget};
    none_of(task, &[Io, NotAnObject, WrongTarget, Untrusted])
}

pub(super) fn manifest(task: &Task) -> Verdict {
    none_of(task, &[RefusalKind::NoManifest, RefusalKind::BadManifest])
}

pub(super) fn api_version(task: &Task) -> Verdict {
    none_of(task, &[RefusalKind::ApiVersion])
}

pub(super) fn panic_policy(task: &Task) -> Verdict {
    let refused = refusals(task, false).into_iter().find(|refusal| refusal.kind == RefusalKind::PanicPolicy);
    refused.map_or(Ok(()), |refusal| fails(refusal.message))
}

pub(super) fn entry(task: &Task) -> Verdict {
    none_of(task, &[RefusalKind::NoEntry])
}

fn manifests(task: &Task) -> Verdict<Vec<Manifest>> {
    match inspect(task, true) {
        Ok(plugins) => Ok(plugins.into_iter().filter_map(|plugin| plugin.manifest).collect()),
        Err(refusal) => Err(Finding::Skips(format!("the file cannot be used: {refusal}"))),
    }
}

fn contents(task: &Task) -> Verdict<Vec<u8>> {
    fs::read(&task.file).map_err(|error| Finding::Skips(format!("the file cannot be read: {error}")))
}

fn unreadable(error: object::Error) -> Finding {
    Finding::Skips(format!("the file is no sound object: {error}"))
}

pub(super) fn exports(task: &Task) -> Verdict {
    let entries: Vec<String> = manifests(task)?.into_iter().map(|manifest| manifest.build.entry).collect();
    let bytes = contents(task)?;
    let file = object::File::parse(bytes.as_slice()).map_err(unreadable)?;
    let exported = file.dynamic_symbols().filter(|symbol| symbol.is_definition() && symbol.is_global());
    let names = exported.filter_map(|symbol| symbol.name().ok());
    let others: Vec<&str> = names
        .filter(|name| !entries.iter().any(|entry| entry == name) && !name.starts_with("endpoints_manifest_"))
        .collect();
    match others.as_slice() {
        [] => Ok(()),
        [first, ..] => warns(format!(
            "it exports {} symbols beside its entry, such as {first}: hide them, so that they never stand in for others",
            others.len()
        )),
    }
}

pub(super) fn dependencies(task: &Task) -> Verdict {
    let bytes = contents(task)?;
    let data = bytes.as_slice();
    let object::File::Elf64(file) = object::File::parse(data).map_err(unreadable)? else {
        return Err(Finding::Skips("it is no 64-bit ELF file".into()));
    };
    let (endian, header) = (file.endian(), file.elf_header());
    let sections = header.sections(endian, data).map_err(unreadable)?;
    let Some((dynamic, link)) = sections.dynamic(endian, data).map_err(unreadable)? else { return Ok(()) };
    let strings = sections.strings(endian, data, link).map_err(unreadable)?;
    for entry in dynamic {
        let text = entry.string(endian, strings).map(String::from_utf8_lossy).unwrap_or_default();
        let tag = entry.d_tag(endian);
        if (tag == DT_RUNPATH || tag == DT_RPATH) && text.contains("$ORIGIN") {
            return warns(format!(
                "it looks for libraries in {text}, which is not where it lies when it is loaded through a descriptor: \
                 link them statically or install them where the system looks"
            ));
        }
        if tag == DT_NEEDED && text.starts_with('/') {
            return warns(format!(
                "it needs the library {text} by its path: it is found on no other machine"
            ));
        }
    }
    let _: Endianness = endian;
    Ok(())
}

pub(super) fn described(task: &Task) -> Verdict {
    let mut missing = Vec::new();
    for manifest in manifests(task)? {
        if manifest.plugin.summary.is_empty() {
            missing.push(format!("the plugin {} has no summary", manifest.build.name));
        }
        for scheme in &manifest.plugin.schemes {
            if scheme.summary.is_empty() {
                missing.push(format!("the scheme {} has no summary", scheme.name));
            }
            for (side, role) in [("client", &scheme.client), ("server", &scheme.server)] {
                let Some(role) = role else { continue };
                let here = format!("{} ({side})", scheme.name);
                if role.summary.is_empty() {
                    missing.push(format!("{here} has no summary"));
                }
                if role.examples.is_empty() {
                    missing.push(format!("{here} has no examples"));
                }
                let bare = |parameter: &&Parameter| parameter.description.is_empty();
                let bare = role.parameters.iter().filter(bare);
                missing.extend(bare.map(|one| format!("{} of {here} has no description", one.name)));
            }
        }
    }
    match missing.as_slice() {
        [] => Ok(()),
        [only] => warns(only.clone()),
        [first, rest @ ..] => warns(format!("{first}, and {} more like that", rest.len())),
    }
}

/// Fails with what the loader says against a plugin of the file.
pub(super) fn usable(task: &Task) -> Verdict {
    let refused = refusals(task, true);
    ensure(refused.is_empty(), || refused[0].message.clone())
}
