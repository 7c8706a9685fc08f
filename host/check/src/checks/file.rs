//! What can be said about a file without running any of it.

use std::fs;

use endpoints::manifest::{Manifest, Parameter};
use endpoints::{PluginReport, PluginState, Refusal, RefusalKind, Registry};
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH};
use object::read::elf::{Dyn as _, FileHeader as _};
use object::{Object as _, ObjectSymbol as _, ReadCache};

use crate::finding::{Finding, Verdict, fails, skips, warns};
use crate::task::Task;

/// What the loader finds, before it would load anything; a panic policy is a check of its own.
fn inspect(task: &Task, allow_abort: bool) -> Result<Vec<PluginReport>, Refusal> {
    let registry = Registry::builder().default_plugin_path(false).allow_abort(allow_abort).build();
    let registry =
        registry.map_err(|error| Refusal { kind: RefusalKind::Io, message: error.message().to_owned() })?;
    registry.inspect_file(&task.file)
}

/// The refusals of the plugins in a file.
fn refusals(plugins: Vec<PluginReport>) -> impl Iterator<Item = Refusal> {
    plugins.into_iter().filter_map(|plugin| match plugin.state {
        PluginState::Refused(refusal) => Some(refusal),
        _ => None,
    })
}

/// Fails where the file, or a plugin in it, is refused for such a reason. Where another one keeps the file from being looked
/// at, nothing can be said.
fn none_of(task: &Task, kinds: &[RefusalKind]) -> Verdict {
    let found = match inspect(task, true) {
        Err(refusal) if kinds.contains(&refusal.kind) => Some(refusal),
        Err(refusal) => return skips(format!("the file cannot be used: {refusal}")),
        Ok(plugins) => refusals(plugins).find(|refusal| kinds.contains(&refusal.kind)),
    };
    found.map_or(Ok(()), |refusal| fails(refusal.message))
}

pub(super) fn sound(task: &Task) -> Verdict {
    use RefusalKind::{Io, NotAnObject, Untrusted, WrongTarget};
    match inspect(task, true) {
        Err(refusal) if [Io, NotAnObject, WrongTarget, Untrusted].contains(&refusal.kind) => {
            fails(refusal.message)
        }
        _ => Ok(()),
    }
}

pub(super) fn manifest(task: &Task) -> Verdict {
    none_of(task, &[RefusalKind::NoManifest, RefusalKind::BadManifest])
}

pub(super) fn api_version(task: &Task) -> Verdict {
    none_of(task, &[RefusalKind::ApiVersion])
}

pub(super) fn panic_policy(task: &Task) -> Verdict {
    let plugins = inspect(task, false).or_else(|refusal| unusable(&refusal))?;
    let refused = refusals(plugins).find(|refusal| refusal.kind == RefusalKind::PanicPolicy);
    refused.map_or(Ok(()), |refusal| fails(refusal.message))
}

pub(super) fn entry(task: &Task) -> Verdict {
    none_of(task, &[RefusalKind::NoEntry])
}

fn manifests(task: &Task) -> Verdict<Vec<Manifest>> {
    let plugins = inspect(task, true).or_else(|refusal| unusable(&refusal))?;
    Ok(plugins.into_iter().filter_map(|plugin| plugin.manifest).collect())
}

fn unusable<T>(refusal: &Refusal) -> Verdict<T> {
    skips(format!("the file cannot be used: {refusal}"))
}

/// What is in a file that a host would look at: no more of it is read than is asked for.
fn contents(task: &Task) -> Verdict<ReadCache<fs::File>> {
    inspect(task, true).map(drop).or_else(|refusal| unusable(&refusal))?;
    let file = fs::File::open(&task.file);
    file.map(ReadCache::new).map_err(|error| Finding::Skips(format!("the file cannot be read: {error}")))
}

fn unreadable(error: object::Error) -> Finding {
    Finding::Skips(format!("the file is no sound object: {error}"))
}

pub(super) fn exports(task: &Task) -> Verdict {
    let entries: Vec<String> = manifests(task)?.into_iter().map(|manifest| manifest.build.entry).collect();
    if entries.is_empty() {
        return skips("its manifest does not say what its entry is");
    }
    let contents = contents(task)?;
    let file = object::File::parse(&contents).map_err(unreadable)?;
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
    let contents = contents(task)?;
    let data = &contents;
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
    Ok(())
}

pub(super) fn fields(task: &Task) -> Verdict {
    let unknown: Vec<String> =
        manifests(task)?.into_iter().flat_map(|manifest| manifest.unknown_fields).collect();
    match unknown.as_slice() {
        [] => Ok(()),
        all => warns(format!(
            "plugin.json has fields that this version does not know and passes over, perhaps misspelt: {}",
            all.join(", ")
        )),
    }
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

/// Fails with what the loader says against the file, or a plugin in it.
pub(super) fn usable(task: &Task) -> Verdict {
    let plugins = inspect(task, true).or_else(|refusal| fails(refusal.message))?;
    refusals(plugins).next().map_or(Ok(()), |refusal| fails(refusal.message))
}
