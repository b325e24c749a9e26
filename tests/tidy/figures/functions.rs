//! How long functions are, and how they take and bind values.

use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Figure, count, percentile};
use crate::source::CrateSource;

/// - A function's lines reach from its signature to its closing brace: without doc comments and
///   attributes, with comments and blank lines inside. A function without a body does not count,
///   one inside another counts for both.
/// - A tuple parameter is one whose pattern or type is a tuple of two or more, or whose type is a
///   reference to one. Closures have none.
/// - A paired `let` binds a tuple pattern to a tuple expression.
pub(super) fn figures(code: &CrateSource) -> Vec<Figure> {
    let mut seen = Functions::default();
    for file in &code.files {
        seen.file.clone_from(&file.path);
        seen.visit_file(&file.syntax);
    }
    let mut lines: Vec<_> = seen.lines.iter().map(|(lines, _)| *lines).collect();
    lines.sort_unstable();
    let over = |name, limit: usize| {
        let long = seen.lines.iter().filter(|(lines, _)| *lines > limit);
        let found: Vec<_> = long.map(|(lines, place)| format!("{lines} {place}")).collect();
        Figure::new(name, count(found.len())).found(found)
    };
    let lets = 1000.0 * count(seen.paired_lets.len()) / count(code.lines());
    vec![
        Figure::new("functions", count(lines.len())),
        Figure::new("function lines, median", percentile(&lines, 50)),
        Figure::new("function lines, p90", percentile(&lines, 90)).ceiling(20.0),
        Figure::new("function lines, most", percentile(&lines, 100)).ceiling(60.0),
        over("functions over 40 lines", 40).ceiling(8.0),
        over("functions over 70 lines", 70).ceiling(0.0),
        Figure::new("tuple parameters", count(seen.tuple_parameters.len()))
            .ceiling(0.0)
            .found(seen.tuple_parameters),
        Figure::new("let (a, b) = (x, y), per 1,000 lines", lets)
            .ceiling(3.3)
            .found(seen.paired_lets),
    ]
}

#[derive(Default)]
struct Functions {
    /// The file being seen.
    file: PathBuf,
    /// The lines of each function, with its place.
    lines: Vec<(usize, String)>,
    tuple_parameters: Vec<String>,
    paired_lets: Vec<String>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let lines = body.span().end().line - signature.span().start().line + 1;
        let place = format!("{} {}", place(&self.file, signature), signature.ident);
        self.lines.push((lines, place));
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.add(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_fn_arg(&mut self, argument: &'a syn::FnArg) {
        if let syn::FnArg::Typed(parameter) = argument
            && (is_tuple_pattern(&parameter.pat) || is_tuple_type(&parameter.ty))
        {
            self.tuple_parameters.push(place(&self.file, parameter));
        }
        visit::visit_fn_arg(self, argument);
    }

    fn visit_local(&mut self, local: &'a syn::Local) {
        let value = local.init.as_ref().map(|init| &*init.expr);
        if is_tuple_pattern(&local.pat) && matches!(value, Some(syn::Expr::Tuple(_))) {
            self.paired_lets.push(place(&self.file, local));
        }
        visit::visit_local(self, local);
    }
}

fn place(file: &Path, item: &impl Spanned) -> String {
    format!("{}:{}", file.display(), item.span().start().line)
}

fn is_tuple_pattern(pattern: &syn::Pat) -> bool {
    matches!(pattern, syn::Pat::Tuple(tuple) if tuple.elems.len() > 1)
}

fn is_tuple_type(ty: &syn::Type) -> bool {
    match ty {
        syn::Type::Tuple(tuple) => tuple.elems.len() > 1,
        syn::Type::Reference(reference) => is_tuple_type(&reference.elem),
        _ => false,
    }
}
