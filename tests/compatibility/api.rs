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

/// A line for each public item of the crate in that folder, and for each trait that is implemented.
pub(crate) fn items(folder: &str) -> BTreeSet<String> {
    let Api { mut items, implemented, .. } = read(folder);
    items.extend(implemented.into_iter().map(|one| one.line));
    items
}

/// The same with those implementations alone that others can rely on: the traits and the types are public, or of other
/// crates. What macros implement is not seen.
pub(crate) fn reachable_items(folder: &str) -> BTreeSet<String> {
    let Api { mut items, implemented, public, private } = read(folder);
    let is_private = |name: &Declared| private.contains(name) && !public.contains(name);
    let reachable = implemented.into_iter().filter(|one| {
        !is_private(&Declared::Trait(one.of.clone())) && !is_private(&Declared::Type(one.by.clone()))
    });
    items.extend(reachable.map(|one| one.line.trim_end().to_owned()));
    items
}

/// What is read from the source of a crate.
#[derive(Default)]
struct Api {
    items: BTreeSet<String>,
    implemented: Vec<Implementation>,
    public: BTreeSet<Declared>,
    private: BTreeSet<Declared>,
}

/// A trait, by the last part of its name, and who implements it.
struct Implementation {
    of: String,
    by: String,
    line: String,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Declared {
    Trait(String),
    Type(String),
}

impl Api {
    fn note(&mut self, item: &Item) {
        let (visibility, attributes, declared) = match item {
            Item::Struct(one) => (&one.vis, &one.attrs, Declared::Type(one.ident.to_string())),
            Item::Enum(one) => (&one.vis, &one.attrs, Declared::Type(one.ident.to_string())),
            Item::Trait(one) => (&one.vis, &one.attrs, Declared::Trait(one.ident.to_string())),
            _ => return,
        };
        let side = if is_public(visibility, attributes) { &mut self.public } else { &mut self.private };
        side.insert(declared);
    }
}

fn read(folder: &str) -> Api {
    let mut api = Api::default();
    let source = root().join(folder).join("src");
    module(&source.join("lib.rs"), &source, "", &mut api);
    api
}

fn module(file: &Path, folder: &Path, path: &str, api: &mut Api) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    all(&parsed.items, folder, path, api);
}

fn all(parsed: &[Item], folder: &Path, path: &str, api: &mut Api) {
    for item in parsed {
        api.note(item);
        match item {
            Item::Mod(module_item) if !is_for_tests(&module_item.attrs) && !is_hidden(&module_item.attrs) => {
                let name = module_item.ident.to_string();
                let inside = format!("{path}::{name}");
                match &module_item.content {
                    Some((_, content)) => all(content, &folder.join(&name), &inside, api),
                    None => module(&folder.join(format!("{name}.rs")), &folder.join(&name), &inside, api),
                }
            }
            Item::Impl(block) => implementation(block, path, api),
            Item::Macro(exported) if exported.attrs.iter().any(|one| one.path().is_ident("macro_export")) => {
                api.items.insert(format!("macro {}", name_of(exported.ident.as_ref())));
            }
            other => public(other, path, &mut api.items),
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
                variant.fields.iter_mut().for_each(|field| field.attrs.clear());
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

fn implementation(block: &ItemImpl, path: &str, api: &mut Api) {
    let kind = block.self_ty.to_token_stream();
    let generics = block.generics.to_token_stream();
    let bounds = block.generics.where_clause.to_token_stream();
    if let Some((_, implemented, _)) = &block.trait_ {
        let last =
            |path: &syn::Path| path.segments.last().map(|part| part.ident.to_string()).unwrap_or_default();
        let by = match &*block.self_ty {
            syn::Type::Path(kind) => last(&kind.path),
            _ => String::new(),
        };
        let line = format!("impl{generics} {} for {path}::{kind} {bounds}", implemented.to_token_stream());
        api.implemented.push(Implementation { of: last(implemented), by, line });
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
        api.items.insert(format!("{path}::{kind}{generics}::{line}"));
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
        let then: BTreeSet<String> = text.lines().map(without_documentation).collect();
        let gone: Vec<&String> = then.difference(&now).collect();
        assert!(gone.is_empty(), "{}: not there any more, or not as it was: {gone:#?}", path.display());
        let breaking: Vec<&String> = now.difference(&then).filter(|new| breaks(new, &then)).collect();
        assert!(breaking.is_empty(), "{}: what others wrote lacks this: {breaking:#?}", path.display());
    }
}

/// A line of a list that was written when fields of variants still had their documentation.
fn without_documentation(line: &str) -> String {
    let mut parts = line.split("# [doc = \"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| line + part.split_once("\"] ").map_or(part, |(_, rest)| rest))
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
