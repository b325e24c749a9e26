//! The sources under check, as text and as syntax trees.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;

/// All `.rs` files under this crate's `src`, by their paths from there, in order.
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    files_under(&root.join("src"), "rs")
}

/// All files below `root` whose names end in `extension`, by their paths from there, in order.
pub(crate) fn files_under(root: &Path, extension: &str) -> Vec<(PathBuf, String)> {
    let mut pending = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ext| ext == extension) {
                let text = fs::read_to_string(&path).expect("the file is UTF-8");
                found.push((path.strip_prefix(root).expect("is under root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The lines that are not comments, with their numbers.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

/// One file of a crate that is not part of its tests.
pub(crate) struct SourceFile {
    /// From `src`.
    pub(crate) path: PathBuf,
    /// The lines outside its test modules.
    pub(crate) text: String,
    /// Without what is only for tests.
    pub(crate) syntax: syn::File,
}

/// A crate's code, apart from its tests.
pub(crate) struct CrateSource {
    pub(crate) files: Vec<SourceFile>,
    /// Lines of unit tests beside the code.
    pub(crate) test_lines: usize,
}

impl CrateSource {
    pub(crate) fn read(src: &Path) -> Self {
        let mut files = Vec::new();
        let mut test_lines = 0;
        for (path, text) in files_under(src, "rs") {
            if is_test_file(&path) {
                test_lines += text.lines().count();
                continue;
            }
            let mut syntax = syn::parse_file(&text).expect("source is valid Rust");
            let mut tests = Vec::new();
            syntax.items = without_tests(syntax.items, &mut tests);
            let code = lines_outside(&text, &tests);
            test_lines += text.lines().count() - code.lines().count();
            files.push(SourceFile { path, text: code, syntax });
        }
        Self { files, test_lines }
    }

    /// All lines outside tests, blank ones and comments included.
    pub(crate) fn lines(&self) -> usize {
        self.files.iter().map(|file| file.text.lines().count()).sum()
    }
}

/// `tests.rs` and what lies in a folder `tests`.
fn is_test_file(path: &Path) -> bool {
    path.iter().any(|part| part == "tests" || part == "tests.rs")
}

/// The lines that are in none of `left_out`.
fn lines_outside(text: &str, left_out: &[RangeInclusive<usize>]) -> String {
    let kept = text.lines().enumerate();
    let kept = kept.filter(|(index, _)| !left_out.iter().any(|lines| lines.contains(&(index + 1))));
    kept.flat_map(|(_, line)| [line, "\n"]).collect()
}

/// The items that are not only for tests. Adds the lines of test modules to `tests`.
fn without_tests(items: Vec<syn::Item>, tests: &mut Vec<RangeInclusive<usize>>) -> Vec<syn::Item> {
    let mut kept = Vec::new();
    for mut item in items {
        if is_for_tests(attributes_of(&item)) {
            if matches!(&item, syn::Item::Mod(module) if module.content.is_some()) {
                tests.push(lines_of(&item));
            }
            continue;
        }
        match &mut item {
            syn::Item::Mod(syn::ItemMod { content: Some((_, inner)), .. }) => {
                *inner = without_tests(std::mem::take(inner), tests);
            }
            syn::Item::Impl(block) => block.items.retain(|item| match item {
                syn::ImplItem::Fn(function) => !is_for_tests(&function.attrs),
                _ => true,
            }),
            _ => {}
        }
        kept.push(item);
    }
    kept
}

fn lines_of(item: &impl Spanned) -> RangeInclusive<usize> {
    item.span().start().line..=item.span().end().line
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    })
}
