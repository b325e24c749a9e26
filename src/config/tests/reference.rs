//! `docs/configuration.md`: everything after its introduction comes from the declared keys.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::super::keys::{TABLES, single_keys};
use super::super::table::TableInfo;

/// The introduction ends here; an editor of the page is told so by the line itself.
const MARK: &str =
    "<!-- Generated from src/config. `UPDATE=1 cargo test reference` writes it. -->\n";

fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")
}

/// Paragraphs as they are declared, without the space that a doc comment begins with.
fn paragraphs(doc: &str) -> String {
    let lines = doc.trim().lines().map(|line| line.strip_prefix(' ').unwrap_or(line));
    // The schema's links start at the top of the repository, the page's beside it.
    lines.map(str::trim_end).collect::<Vec<_>>().join("\n").replace("](docs/", "](")
}

fn write_table(page: &mut String, table: &TableInfo) {
    let title = match table.title {
        "" => "Top level".to_owned(),
        title if title.contains('`') => title.to_owned(),
        title => format!("`{title}`"),
    };
    let doc = paragraphs(table.doc);
    write!(page, "\n## {title}\n\n{doc}\n").unwrap();
    for key in table.keys {
        let (doc, default) = (paragraphs(key.doc), key.default_words());
        write!(page, "\n### `{}`\n\n{doc}\n\nDefault: {default}\n", key.name).unwrap();
    }
}

fn reference() -> String {
    let mut page = String::new();
    for table in &TABLES {
        write_table(&mut page, table);
    }
    page.push_str(
        "\n## Environment variables of single keys\n\n| variable | key |\n| --- | --- |\n",
    );
    for (table, key) in single_keys() {
        let full = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        let variable = full.replace('.', "_").to_uppercase();
        writeln!(page, "| `LARDER_{variable}` | `{full}` |").unwrap();
    }
    page
}

/// A key that is added, renamed or given another default is documented in the same change.
#[test]
fn the_reference_is_what_the_keys_say() {
    let written = std::fs::read_to_string(page()).unwrap();
    let (introduction, generated) = written.split_once(MARK).expect("the page has the mark");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(page(), format!("{introduction}{MARK}{}", reference())).unwrap();
        return;
    }
    assert!(generated == reference(), "`UPDATE=1 cargo test reference` writes the page anew");
}
