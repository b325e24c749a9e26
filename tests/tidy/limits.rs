//! `docs/limits.md` has every bound, with the value that it has in the code.
//!
//! A bound is a constant of a number or a `Duration` that has `MAX`, `WAIT`, `TTL` or `STALL` in
//! its name, or a configuration key whose default is a number, a size or a duration. A constant
//! that only names another one is none. A field of a constant counts like a constant, as
//! `upstream::retry::FAULT.tries_max`. The page may list further constants; their values are
//! compared too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::source::CrateSource;

const NAME_PARTS: &[&str] = &["MAX", "WAIT", "TTL", "STALL"];

#[test]
fn every_bound_is_on_the_page_of_limits_with_its_value() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |page| fs::read_to_string(root.join("docs").join(page)).expect("readable");
    let bounds = Bounds::read(&root.join("src"), &read("configuration.md"));

    let faults = bounds.compare(&read("limits.md"));

    assert!(faults.is_empty(), "\ndocs/limits.md:\n{}\n", faults.join("\n"));
}

#[test]
fn a_changed_constant_and_a_missing_row_are_found() {
    let dir = tempfile::tempdir().expect("a folder for a crate");
    let code = "const TRIES_MAX: u32 = 3; const WAIT: Duration = Duration::from_secs(2 * 60);\n\
                const BYTES_MAX: usize = 4 << 20; const SAME_MAX: usize = BYTES_MAX as usize;\n\
                struct Name; impl Name { const LEN_MAX: usize = BYTES_MAX + (1 << 10); }\n\
                const FAULT: Schedule = Schedule { tries_max: 2, ..OTHER };";
    fs::write(dir.path().join("room.rs"), code).expect("a file");
    let bounds = Bounds::read(dir.path(), "### `tag_ttl`\n\nDefault: `\"60s\"`\n");
    let page = "| a | 3 | x | `room::TRIES_MAX` |\n\
                | b | 2 min | x | `room::WAIT` |\n\
                | c | 4 MiB | x | `room::BYTES_MAX` |\n\
                | d | 4,097 KiB | x | `room::Name::LEN_MAX` |\n\
                | d | 2 | x | `room::FAULT.tries_max` |\n\
                | e | 60 s | x | [`tag_ttl`](configuration.md#tag_ttl) |\n";
    assert_eq!(bounds.compare(page), Vec::<String>::new());

    for (right, wrong, fault) in [
        ("| 3 |", "| 4 |", "room::TRIES_MAX is 3"),
        ("| 2 |", "| 3 |", "room::FAULT.tries_max is 2"),
        ("2 min", "2 s", "room::WAIT is 120000 ms"),
        ("4 MiB", "4", "room::BYTES_MAX is 4194304"),
        ("60 s", "5 min", "tag_ttl is 60000 ms"),
        ("`room::WAIT`", "`room::WAITS`", "there is no room::WAITS"),
        ("| c | 4 MiB | x | `room::BYTES_MAX` |\n", "", "room::BYTES_MAX has no row"),
        ("| 4,097 KiB | x |", "| 4,097 KiB |  |", "a cell is empty"),
    ] {
        let faults = bounds.compare(&page.replace(right, wrong));
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
    }
}

/// A count or a number of bytes, or a time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BoundValue {
    Number(u64),
    Millis(u64),
}

impl std::fmt::Display for BoundValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Millis(millis) => write!(f, "{millis} ms"),
        }
    }
}

impl BoundValue {
    /// Reads `4 MiB`, `16,384`, `64 entries`, `10 min`, and a default such as `"1GiB"`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches('"');
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(text.len());
        let number: u64 = text[..digits].replace(',', "").parse().ok()?;
        let unit = text[digits..].trim();
        if !unit.chars().all(|c| c.is_alphabetic() || c == ' ') {
            return None;
        }
        Some(match unit {
            "ms" => Self::Millis(number),
            "s" => Self::Millis(number * 1000),
            "min" | "m" => Self::Millis(number * 60_000),
            "h" => Self::Millis(number * 3_600_000),
            "d" | "days" | "day" => Self::Millis(number * 86_400_000),
            "KiB" => Self::Number(number << 10),
            "MiB" => Self::Number(number << 20),
            "GiB" => Self::Number(number << 30),
            "TiB" => Self::Number(number << 40),
            _ => Self::Number(number),
        })
    }

    fn number(self) -> u64 {
        let (Self::Number(number) | Self::Millis(number)) = self;
        number
    }
}

struct Bounds {
    /// By their paths, as `http::listen::CONNECTIONS_MAX`.
    constants: BTreeMap<String, BoundConstant>,
    keys: BTreeMap<String, BoundValue>,
}

struct BoundConstant {
    value: BoundValue,
    is_required: bool,
}

impl Bounds {
    fn read(src: &Path, configuration: &str) -> Self {
        let mut found = Constants::default();
        for file in CrateSource::read(src).files {
            let module = file.path.with_extension("").display().to_string().replace('/', "::");
            found.scope = vec![module.trim_end_matches("::mod").to_owned()];
            found.visit_file(&file.syntax);
        }
        let constants = found.expressions.iter().filter_map(|(path, expression)| {
            let name = path.rsplit([':', '.']).next().unwrap_or(path).to_uppercase();
            let is_bound = name.split('_').any(|part| NAME_PARTS.contains(&part));
            let is_required = is_bound && Literals::any_in(expression);
            let value = found.evaluate(expression);
            assert!(value.is_some() || !is_required, "{path}: its value is not understood");
            Some((path.clone(), BoundConstant { value: value?, is_required }))
        });
        Self { constants: constants.collect(), keys: keys(configuration) }
    }

    /// The faults of a page, one a line.
    fn compare(&self, page: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut missing: Vec<_> = self.keys.keys().collect();
        let required = self.constants.iter().filter(|(_, constant)| constant.is_required);
        missing.extend(required.map(|(path, _)| path));
        for row in page.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [_, value, _, names] = *cells else {
                faults.push(format!("not four cells: {row}"));
                continue;
            };
            if cells.contains(&"") {
                faults.push(format!("a cell is empty: {row}"));
            }
            for name in names.split('`').skip(1).step_by(2) {
                missing.retain(|path| *path != name);
                let constant = self.constants.get(name).map(|constant| constant.value);
                match constant.or(self.keys.get(name).copied()) {
                    None => faults.push(format!("there is no {name}, or it is no bound")),
                    Some(actual) if BoundValue::parse(value) == Some(actual) => {}
                    Some(actual) => faults.push(format!("{name} is {actual}, not {value}")),
                }
            }
        }
        faults.extend(missing.into_iter().map(|name| format!("{name} has no row")));
        faults
    }
}

/// The keys of `docs/configuration.md` whose default is a number, a size or a duration.
fn keys(page: &str) -> BTreeMap<String, BoundValue> {
    let mut keys = BTreeMap::new();
    let mut key = "";
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("### `") {
            key = name.trim_end_matches('`');
        }
        let default = line.strip_prefix("Default: `").and_then(|rest| rest.strip_suffix('`'));
        if let Some(value) = default.and_then(BoundValue::parse) {
            keys.insert(key.to_owned(), value);
        }
    }
    keys
}

/// The constants of a crate of a number or a `Duration`, with their values as written.
#[derive(Default)]
struct Constants {
    expressions: BTreeMap<String, syn::Expr>,
    /// The module, and the type whose constants are visited.
    scope: Vec<String>,
}

impl Constants {
    fn add(&mut self, name: &syn::Ident, ty: &syn::Type, value: &syn::Expr) {
        let path = format!("{}::{name}", self.scope.join("::"));
        if let syn::Expr::Struct(fields) = value {
            let fields = fields.fields.iter().filter_map(|field| {
                let syn::Member::Named(name) = &field.member else { return None };
                Some((format!("{path}.{name}"), field.expr.clone()))
            });
            self.expressions.extend(fields);
        }
        let syn::Type::Path(ty) = ty else { return };
        let ty = ty.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        if matches!(&*ty, "usize" | "u128" | "u64" | "u32" | "u16" | "u8" | "Duration") {
            self.expressions.insert(path, value.clone());
        }
    }

    fn evaluate(&self, expression: &syn::Expr) -> Option<BoundValue> {
        match expression {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }) => {
                number.base10_parse().ok().map(BoundValue::Number)
            }
            syn::Expr::Paren(inner) => self.evaluate(&inner.expr),
            syn::Expr::Cast(cast) => self.evaluate(&cast.expr),
            syn::Expr::Path(path) => self.evaluate_path(&path_of(&path.path)),
            syn::Expr::Call(call) => {
                let syn::Expr::Path(function) = &*call.func else { return None };
                let argument = self.evaluate(call.args.first()?)?.number();
                match &*path_of(&function.path) {
                    "Duration::from_secs" => Some(BoundValue::Millis(argument * 1000)),
                    "Duration::from_millis" => Some(BoundValue::Millis(argument)),
                    _ => None,
                }
            }
            syn::Expr::Binary(binary) => {
                let left = self.evaluate(&binary.left)?.number();
                let right = self.evaluate(&binary.right)?.number();
                Some(BoundValue::Number(match binary.op {
                    syn::BinOp::Add(_) => left + right,
                    syn::BinOp::Sub(_) => left - right,
                    syn::BinOp::Mul(_) => left * right,
                    syn::BinOp::Div(_) => left / right,
                    syn::BinOp::Shl(_) => left << right,
                    syn::BinOp::Shr(_) => left >> right,
                    _ => return None,
                }))
            }
            _ => None,
        }
    }

    /// By the end of its path: the first constant that is named so.
    fn evaluate_path(&self, path: &str) -> Option<BoundValue> {
        if path == "u32::MAX" {
            return Some(BoundValue::Number(u32::MAX.into()));
        }
        let end = format!("::{}", path.trim_start_matches("Self::"));
        let found = self.expressions.iter().find(|(path, _)| path.ends_with(&end))?;
        self.evaluate(found.1)
    }
}

impl<'a> Visit<'a> for Constants {
    fn visit_item_const(&mut self, item: &'a syn::ItemConst) {
        self.add(&item.ident, &item.ty, &item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'a syn::ImplItemConst) {
        self.add(&item.ident, &item.ty, &item.expr);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let syn::Type::Path(ty) = &*item.self_ty else { return };
        self.scope.push(path_of(&ty.path));
        visit::visit_item_impl(self, item);
        self.scope.pop();
    }
}

/// Whether an expression has a number of its own.
#[derive(Default)]
struct Literals {
    any: bool,
}

impl Literals {
    fn any_in(expression: &syn::Expr) -> bool {
        let mut literals = Self::default();
        literals.visit_expr(expression);
        literals.any
    }
}

impl<'a> Visit<'a> for Literals {
    fn visit_lit_int(&mut self, _: &'a syn::LitInt) {
        self.any = true;
    }
}

fn path_of(path: &syn::Path) -> String {
    let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    names.join("::")
}
