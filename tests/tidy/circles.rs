//! Which file uses which, by what they import and name, and which files use each other in a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::source::{CrateSource, SourceFile};

/// Import chains longer than this are taken to be endless.
const REEXPORTS_MAX: usize = 32;

/// The circles of the crate: sets of files of one top-level module that use each other.
///
/// A file uses the file that defines what it names, whether a `use` or a path names it, and however
/// many re-exports lie between. So a `mod.rs` that only declares and re-exports uses nothing, and
/// nothing uses it. Method calls name no file and do not count, nor do links in comments.
pub(crate) fn circles(code: &CrateSource) -> Vec<Vec<String>> {
    let uses = uses_between_files(code);
    let mut reachable = BTreeMap::new();
    for file in uses.keys() {
        let mut seen = BTreeSet::new();
        let mut pending = vec![file];
        while let Some(next) = pending.pop() {
            let unseen = uses.get(next).into_iter().flatten().filter(|used| seen.insert(*used));
            pending.extend(unseen);
        }
        reachable.insert(file, seen);
    }
    let mut circles = BTreeSet::new();
    for (file, seen) in &reachable {
        if seen.contains(file) {
            let with = seen.iter().filter(|other| reachable[*other].contains(file));
            circles.insert(with.map(|name| (*name).clone()).collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

/// Each file by its path from `src`, and the other files of its top-level module that it uses.
pub(crate) fn uses_between_files(code: &CrateSource) -> BTreeMap<String, BTreeSet<String>> {
    let modules = Modules::new(code);
    let mut by_file = BTreeMap::new();
    for file in &code.files {
        let mut named = NamedPaths::default();
        named.visit_file(&file.syntax);
        let own = module_path(&file.path);
        let used = named
            .paths
            .into_iter()
            .filter_map(|path| modules.defining_file(&absolute(&own, path), REEXPORTS_MAX))
            .filter(|used| used.path != file.path)
            .filter(|used| used.path.iter().next() == file.path.iter().next());
        by_file.insert(name_of(file), used.map(name_of).collect());
    }
    by_file
}

fn name_of(file: &SourceFile) -> String {
    file.path.display().to_string()
}

/// `["cache", "fill"]` for `cache/fill.rs` and for `cache/fill/mod.rs`.
fn module_path(file: &Path) -> Vec<String> {
    let mut path: Vec<_> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .filter(|part| part != "lib" && part != "main")
        .collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// `path`, written in `module`, from the crate's root.
fn absolute(module: &[String], path: Vec<String>) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = path.into_iter().peekable();
    while let Some(first) = rest.next_if(|part| matches!(&**part, "crate" | "self" | "super")) {
        match &*first {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            _ => {}
        }
    }
    base.extend(rest);
    base
}

/// The modules of a crate that are files, and the names in each.
struct Modules<'a> {
    by_path: HashMap<Vec<String>, Module<'a>>,
}

struct Module<'a> {
    file: &'a SourceFile,
    /// Names bound by `use`, with the paths they stand for, as written.
    imports: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    definitions: BTreeSet<String>,
}

impl<'a> Modules<'a> {
    fn new(code: &'a CrateSource) -> Self {
        let files = code.files.iter().filter(|file| !file.path.ends_with("main.rs"));
        let by_path = files.map(|file| (module_path(&file.path), Module::new(file))).collect();
        Self { by_path }
    }

    /// The file that defines what `path` names. None for a module as a whole, and for what is not
    /// of this crate.
    fn defining_file(&self, path: &[String], depth: usize) -> Option<&'a SourceFile> {
        let depth = depth.checked_sub(1)?;
        let deepest =
            (0..=path.len()).rev().find(|len| self.by_path.contains_key(&path[..*len]))?;
        let (own, rest) = path.split_at(deepest);
        let module = &self.by_path[own];
        let (name, inner) = rest.split_first()?;
        if module.definitions.contains(name) {
            return Some(module.file);
        }
        let follow = |target: &[String], inner: &[String]| {
            let target = [target, inner].concat();
            let target = absolute(own, target);
            // A name that only stands for itself is another crate's.
            (target != path).then(|| self.defining_file(&target, depth)).flatten()
        };
        match module.imports.get(name) {
            Some(target) => follow(target, inner),
            None => module.globs.iter().find_map(|glob| follow(glob, rest)),
        }
    }
}

impl<'a> Module<'a> {
    fn new(file: &'a SourceFile) -> Self {
        let mut module =
            Self { file, imports: HashMap::new(), globs: Vec::new(), definitions: BTreeSet::new() };
        for item in &file.syntax.items {
            let name = match item {
                syn::Item::Use(item) => {
                    module.import(&item.tree, &mut Vec::new());
                    continue;
                }
                syn::Item::Const(item) => &item.ident,
                syn::Item::Enum(item) => &item.ident,
                syn::Item::Fn(item) => &item.sig.ident,
                syn::Item::Static(item) => &item.ident,
                syn::Item::Struct(item) => &item.ident,
                syn::Item::Trait(item) => &item.ident,
                syn::Item::Type(item) => &item.ident,
                syn::Item::Union(item) => &item.ident,
                syn::Item::Mod(item) if item.content.is_some() => &item.ident,
                syn::Item::Macro(syn::ItemMacro { ident: Some(name), .. }) => name,
                _ => continue,
            };
            module.definitions.insert(name.to_string());
        }
        module
    }

    fn import(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        for (path, name) in leaves(tree, prefix) {
            match name {
                Some(name) => drop(self.imports.insert(name, path)),
                None => self.globs.push(path),
            }
        }
    }
}

/// The paths of a `use`, each with the name that it binds: none for a glob.
fn leaves(tree: &syn::UseTree, prefix: &mut Vec<String>) -> Vec<(Vec<String>, Option<String>)> {
    let with = |name: &syn::Ident| {
        let own = (name != "self").then(|| name.to_string());
        prefix.iter().cloned().chain(own).collect::<Vec<_>>()
    };
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            let found = leaves(&path.tree, prefix);
            prefix.pop();
            found
        }
        syn::UseTree::Name(name) => {
            let path = with(&name.ident);
            let bound = path.last().cloned();
            vec![(path, bound)]
        }
        syn::UseTree::Rename(rename) => {
            vec![(with(&rename.ident), Some(rename.rename.to_string()))]
        }
        syn::UseTree::Glob(_) => vec![(prefix.clone(), None)],
        syn::UseTree::Group(group) => {
            group.items.iter().flat_map(|tree| leaves(tree, prefix)).collect()
        }
    }
}

/// Every path that a file names, re-exports apart.
#[derive(Default)]
struct NamedPaths {
    paths: Vec<Vec<String>>,
}

impl NamedPaths {
    /// Macros are not parsed: every `a::b` in them counts.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.paths.push(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.paths.push(std::mem::take(&mut path));
                    self.add_tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.paths.push(std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.paths.push(path);
    }
}

impl<'a> Visit<'a> for NamedPaths {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if matches!(item.vis, syn::Visibility::Inherited) {
            let found = leaves(&item.tree, &mut Vec::new());
            self.paths.extend(found.into_iter().map(|(path, _)| path));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string());
            self.paths.push(names.collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'a syn::Macro) {
        self.add_tokens(mac.tokens.clone());
    }

    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}

    fn visit_attribute(&mut self, _: &'a syn::Attribute) {}
}

#[test]
fn a_circle_is_found_through_reexports_and_imports_of_modules() {
    let dir = tempfile::tempdir().expect("a folder for a crate");
    for (file, text) in [
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod top; mod low; mod side; pub use top::Top; pub(crate) use low::*;"),
        ("room/top.rs", "use super::Low; pub struct Top(Low);"),
        ("room/low.rs", "use crate::room::side; pub struct Low(side::Side);"),
        ("room/side.rs", "pub struct Side; fn _f() { assert!(super::Top::is_it()); }"),
    ] {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
        fs::write(file, text).expect("a file");
    }

    let found = circles(&CrateSource::read(dir.path()));

    assert_eq!(found, [["room/low.rs", "room/side.rs", "room/top.rs"]]);
}
