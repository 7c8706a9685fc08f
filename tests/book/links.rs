//! What the pages refer to: other pages, their headings, files of the repository, and parts of programs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::page;

fn pages() -> Vec<PathBuf> {
    let mut pages = vec![page::root().join("README.md"), page::root().join("CONTRIBUTING.md")];
    for folder in ["docs/src", "docs/src/schemes", "docs/decisions"] {
        let entries = fs::read_dir(page::root().join(folder)).expect(folder);
        pages.extend(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    pages
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) =
                link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if let Some(heading) = heading {
                assert!(headings(&target).any(|known| known == heading), "{}: {link}", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

/// The names by which the headings of a page are referred to.
fn headings(page: &Path) -> impl Iterator<Item = String> + use<> {
    let text = fs::read_to_string(page).expect("a page");
    let names: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect();
    names.into_iter()
}

#[test]
fn included_parts_exist() {
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for include in
            text.split("{{#include ").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(path, _)| path)
        {
            let (file, part) =
                include.split_once(':').map_or((include, None), |(file, part)| (file, Some(part)));
            let source = fs::read_to_string(page.with_file_name(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            if let Some(part) = part {
                for mark in [format!("// ANCHOR: {part}\n"), format!("// ANCHOR_END: {part}\n")] {
                    assert_eq!(source.matches(&mark).count(), 1, "{include}: {mark}");
                }
            }
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} includes were found");
}
