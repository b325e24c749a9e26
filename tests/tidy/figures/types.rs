//! How types are named, and whether their methods stand where they do.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use syn::spanned::Spanned as _;

use super::{Figure, count, percent};
use crate::source::CrateSource;

/// - A type is a struct, enum, union, trait or type alias at module level. One in a function or an
///   associated one does not count.
/// - A word begins with each capital that follows a small letter or a digit, or stands before a
///   small letter: `TagRecord` has two, `Tls` and `TLS` have one.
/// - A shared name is that of two or more types anywhere in the crate; each of them counts.
/// - An inherent `impl` is away when its file defines no type of that name. Its lines are all from
///   `impl` to the closing brace.
pub(super) fn figures(code: &CrateSource) -> Vec<Figure> {
    let types = types(code);
    let share = |name, is_counted: &dyn Fn(&TypeName<'_>) -> bool| {
        let found: Vec<_> = types.iter().filter(|found| is_counted(found)).collect();
        let mut places: Vec<_> = found.iter().map(ToString::to_string).collect();
        places.sort_unstable();
        Figure::new(name, percent(found.len(), types.len())).found(places)
    };
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for found in &types {
        *uses.entry(&found.name).or_default() += 1;
    }
    let (away, all) = inherent_lines(code, &types);
    let away_lines = away.iter().map(|(lines, _)| lines).sum();
    let away = away.into_iter().map(|(lines, place)| format!("{lines} {place}"));
    vec![
        Figure::new("types", count(types.len())),
        share("one-word type names, %", &|found| words(&found.name) == 1).ceiling(8.0),
        share("types with a shared name, %", &|found| uses[&*found.name] > 1).ceiling(0.0),
        Figure::new("lines of impls away from their type, %", percent(away_lines, all))
            .ceiling(0.6)
            .found(away.collect()),
    ]
}

struct TypeName<'a> {
    name: String,
    file: &'a Path,
}

impl fmt::Display for TypeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.file.display())
    }
}

fn types(code: &CrateSource) -> Vec<TypeName<'_>> {
    let mut found = Vec::new();
    for file in &code.files {
        collect(&file.syntax.items, &file.path, &mut found);
    }
    found
}

fn collect<'a>(items: &[syn::Item], file: &'a Path, found: &mut Vec<TypeName<'a>>) {
    for item in items {
        let name = match item {
            syn::Item::Enum(item) => &item.ident,
            syn::Item::Struct(item) => &item.ident,
            syn::Item::Trait(item) => &item.ident,
            syn::Item::Type(item) => &item.ident,
            syn::Item::Union(item) => &item.ident,
            syn::Item::Mod(syn::ItemMod { content: Some((_, items)), .. }) => {
                collect(items, file, found);
                continue;
            }
            _ => continue,
        };
        found.push(TypeName { name: name.to_string(), file });
    }
}

fn words(name: &str) -> usize {
    let letters: Vec<char> = name.chars().collect();
    let begins = |at: usize| {
        let is_capital = letters[at].is_uppercase();
        let after_small = at > 0 && !letters[at - 1].is_uppercase();
        let before_small = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        is_capital && (at == 0 || after_small || before_small)
    };
    (0..letters.len()).filter(|at| begins(*at)).count()
}

/// The inherent impls away from their type, with their lines, and the lines of all.
fn inherent_lines(code: &CrateSource, types: &[TypeName<'_>]) -> (Vec<(usize, String)>, usize) {
    let mut away = Vec::new();
    let mut all = 0;
    for file in &code.files {
        for item in &file.syntax.items {
            let syn::Item::Impl(block) = item else { continue };
            let Some(name) = inherent_type(block) else { continue };
            let lines = block.span().end().line - block.impl_token.span().start().line + 1;
            all += lines;
            if !types.iter().any(|found| found.file == file.path && name == found.name) {
                away.push((lines, format!("{name} {}", file.path.display())));
            }
        }
    }
    (away, all)
}

/// The name of the type whose inherent impl this is.
fn inherent_type(block: &syn::ItemImpl) -> Option<String> {
    match &*block.self_ty {
        syn::Type::Path(ty) if block.trait_.is_none() => {
            ty.path.segments.last().map(|segment| segment.ident.to_string())
        }
        _ => None,
    }
}

#[test]
fn words_of_a_name_begin_with_its_capitals() {
    for (name, expected) in [("Tag", 1), ("TLS", 1), ("H2", 1), ("TagRecord", 2), ("TLSConfig", 2)]
    {
        assert_eq!(words(name), expected, "{name}");
    }
}
