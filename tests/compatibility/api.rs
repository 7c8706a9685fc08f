//! The public items of `endpoints-plugin-api`, against those of released versions: a later one only adds.
//!
//! They are read from the source, by `syn`: tools that compare what rustdoc writes need a nightly compiler, or one of an
//! exact version.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use quote::ToTokens;
use syn::{Attribute, Item, ItemImpl, TraitItem, Visibility};

use crate::checked::root;

/// A line for each public item of the crate in that folder.
pub(crate) fn items(folder: &str) -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    let source = root().join(folder).join("src");
    module(&source.join("lib.rs"), &source, "", &mut items);
    items
}

fn module(file: &Path, folder: &Path, path: &str, items: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    all(&parsed.items, folder, path, items);
}

fn all(parsed: &[Item], folder: &Path, path: &str, items: &mut BTreeSet<String>) {
    for item in parsed {
        match item {
            Item::Mod(module_item) if !is_for_tests(&module_item.attrs) && !is_hidden(&module_item.attrs) => {
                let name = module_item.ident.to_string();
                let inside = format!("{path}::{name}");
                match &module_item.content {
                    Some((_, content)) => all(content, &folder.join(&name), &inside, items),
                    None => module(&folder.join(format!("{name}.rs")), &folder.join(&name), &inside, items),
                }
            }
            Item::Impl(block) => implementation(block, path, items),
            Item::Macro(exported) if exported.attrs.iter().any(|one| one.path().is_ident("macro_export")) => {
                items.insert(format!("macro {}", name_of(exported.ident.as_ref())));
            }
            other => public(other, path, items),
        }
    }
}

fn name_of(ident: Option<&syn::Ident>) -> String {
    ident.map(ToString::to_string).unwrap_or_default()
}

/// An item that says by itself whether it is public.
fn public(item: &Item, path: &str, items: &mut BTreeSet<String>) {
    let mut add = |line: String| {
        items.insert(line.replace(" ,", ","));
    };
    match item {
        Item::Fn(function) if is_public(&function.vis, &function.attrs) => {
            add(format!("{path}::{}", function.sig.to_token_stream()));
        }
        Item::Struct(structure) if is_public(&structure.vis, &structure.attrs) => {
            let name = format!("{path}::{}{}", structure.ident, structure.generics.to_token_stream());
            add(format!("struct {name}{}", traits(&structure.attrs)));
            for field in structure.fields.iter().filter(|field| is_public(&field.vis, &field.attrs)) {
                let kind = field.ty.to_token_stream();
                add(format!("struct {name}.{}: {kind}", name_of(field.ident.as_ref())));
            }
        }
        Item::Enum(enumeration) if is_public(&enumeration.vis, &enumeration.attrs) => {
            let name = format!("{path}::{}", enumeration.ident);
            add(format!("enum {name}{}", traits(&enumeration.attrs)));
            for variant in &enumeration.variants {
                let mut variant = variant.clone();
                variant.attrs.clear();
                add(format!("enum {name}::{}", variant.to_token_stream()));
            }
        }
        Item::Trait(declared) if is_public(&declared.vis, &declared.attrs) => {
            let name = format!("{path}::{}", declared.ident);
            add(format!("trait {name}: {}", declared.supertraits.to_token_stream()));
            for item in &declared.items {
                match item {
                    TraitItem::Fn(function) => {
                        let given = if function.default.is_some() { " (provided)" } else { "" };
                        add(format!("trait {name}::{}{given}", function.sig.to_token_stream()));
                    }
                    TraitItem::Const(constant) => add(format!("trait {name}::const {}", constant.ident)),
                    TraitItem::Type(kind) => add(format!("trait {name}::type {}", kind.ident)),
                    _ => {}
                }
            }
        }
        Item::Const(constant) if is_public(&constant.vis, &constant.attrs) => {
            let (kind, value) = (constant.ty.to_token_stream(), constant.expr.to_token_stream());
            add(format!("const {path}::{}: {kind} = {value}", constant.ident));
        }
        Item::Type(alias) if is_public(&alias.vis, &alias.attrs) => {
            add(format!("type {path}::{} = {}", alias.ident, alias.ty.to_token_stream()));
        }
        Item::Use(used) if is_public(&used.vis, &used.attrs) => {
            for name in names(&used.tree, "") {
                add(format!("use {path}::{name}"));
            }
        }
        _ => {}
    }
}

/// The names that a `use` makes public, each on its own.
fn names(tree: &syn::UseTree, before: &str) -> Vec<String> {
    match tree {
        syn::UseTree::Path(path) => names(&path.tree, &format!("{before}{}::", path.ident)),
        syn::UseTree::Group(group) => group.items.iter().flat_map(|tree| names(tree, before)).collect(),
        other => vec![format!("{before}{}", other.to_token_stream())],
    }
}

fn implementation(block: &ItemImpl, path: &str, items: &mut BTreeSet<String>) {
    let kind = block.self_ty.to_token_stream();
    let generics = block.generics.to_token_stream();
    let bounds = block.generics.where_clause.to_token_stream();
    if let Some((_, implemented, _)) = &block.trait_ {
        items.insert(format!("impl{generics} {} for {path}::{kind} {bounds}", implemented.to_token_stream()));
        return;
    }
    for item in &block.items {
        let line = match item {
            syn::ImplItem::Fn(function) if is_public(&function.vis, &function.attrs) => {
                function.sig.to_token_stream().to_string()
            }
            syn::ImplItem::Const(constant) if is_public(&constant.vis, &constant.attrs) => {
                let (kind, value) = (constant.ty.to_token_stream(), constant.expr.to_token_stream());
                format!("const {}: {kind} = {value}", constant.ident)
            }
            _ => continue,
        };
        items.insert(format!("{path}::{kind}{generics}::{line}"));
    }
}

fn is_public(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && !is_hidden(attributes)
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    let hides =
        |one: &Attribute| one.path().is_ident("doc") && one.to_token_stream().to_string().contains("hidden");
    attributes.iter().any(hides)
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test =
        |one: &Attribute| one.path().is_ident("cfg") && one.to_token_stream().to_string().contains("(test)");
    attributes.iter().any(is_test)
}

/// What a type derives, and whether it may grow.
fn traits(attributes: &[Attribute]) -> String {
    let told = ["derive", "non_exhaustive", "repr"];
    let kept = attributes.iter().filter(|one| told.iter().any(|name| one.path().is_ident(name)));
    kept.map(|one| format!(" {}", one.meta.to_token_stream())).collect()
}

#[test]
fn what_was_released_is_still_there() {
    let now = items("plugin-api");
    assert!(now.len() > 300, "{}", now.len());
    for version in fs::read_dir(root().join("tests/fixtures/abi")).expect("the released versions") {
        let path = version.expect("an entry").path().join("api.txt");
        if !path.parent().is_some_and(Path::is_dir) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            let text: String = now.iter().map(|item| format!("{item}\n")).collect();
            fs::write(&path, text).expect("the items of a new version");
            panic!("{} was missing and is written: look at it, and add it", path.display());
        };
        let then: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        let gone: Vec<&String> = then.difference(&now).collect();
        assert!(gone.is_empty(), "{}: not there any more, or not as it was: {gone:#?}", path.display());
        let breaking: Vec<&String> = now.difference(&then).filter(|new| breaks(new, &then)).collect();
        assert!(breaking.is_empty(), "{}: what others wrote lacks this: {breaking:#?}", path.display());
    }
}

/// Whether something new breaks what others wrote: a variant that a match lacks, or what an implementation has to have. The
/// traits of the boundary itself are implemented here and in the host alone.
fn breaks(new: &str, then: &BTreeSet<String>) -> bool {
    // The line that declares what the new line belongs to.
    let declared = |kind: &str, end: &str| {
        then.iter().find(|line| {
            let name = line.strip_prefix(kind).and_then(|rest| rest.split_once(end)).map(|(name, _)| name);
            name.is_some_and(|name| {
                new.strip_prefix(kind).is_some_and(|rest| rest.starts_with(&format!("{name}::")))
            })
        })
    };
    let is_required = !new.ends_with(" (provided)") && !new.starts_with("trait ::abi::");
    declared("enum ", " ").is_some_and(|line| !line.contains("non_exhaustive"))
        || is_required && declared("trait ", ": ").is_some()
}

#[test]
fn additions_that_break_others_are_told() {
    let then: BTreeSet<String> = [
        "trait ::plugin::Plugin: Send",
        "enum ::error::Kind derive (Debug)",
        "enum ::a::Open non_exhaustive",
    ]
    .map(str::to_owned)
    .into();
    for (new, breaking) in [
        ("trait ::plugin::Plugin::fn more (& self)", true),
        ("trait ::plugin::Plugin::fn more (& self) (provided)", false),
        ("trait ::plugin::Other::fn more (& self)", false),
        ("trait ::abi::services::Services::fn more (& self)", false),
        ("enum ::error::Kind::More", true),
        ("enum ::a::Open::More", false),
        ("struct ::a::More derive (Debug)", false),
    ] {
        assert_eq!(breaks(new, &then), breaking, "{new}");
    }
}
