//! `larder.toml(5)`: the keys as a manual page, from the same documentation as the reference.

use roff::{Inline, Roff, bold, italic, roman};

use super::environment::variable;
use super::keys::{TABLES, single_keys};
use super::table::TableInfo;

/// The page, in roff.
pub fn manual() -> String {
    let mut page = Roff::new();
    let version = concat!("larder ", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["larder.toml", "5", "", version, ""]);
    section(&mut page, "NAME");
    page.text([roman("larder.toml - configuration of Larder, a caching registry proxy")]);
    section(&mut page, "DESCRIPTION");
    for text in INTRODUCTION {
        paragraphs(&mut page, "PP", text);
    }
    for table in &TABLES {
        write_table(&mut page, table);
    }
    section(&mut page, "ENVIRONMENT");
    for (table, key) in single_keys() {
        let full = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        page.control("TP", []).text([bold(variable(table, key))]).text([roman(full)]);
    }
    section(&mut page, "FILES");
    page.control("TP", []).text([italic("/etc/larder/config.toml")]);
    page.text([roman("The file that is read if none is named.")]);
    section(&mut page, "SEE ALSO");
    page.text([bold("larder"), roman("(1), "), bold("larder-check"), roman("(1)")]);
    page.render()
}

const INTRODUCTION: [&str; 4] = [
    "The file is TOML. It is named by `--config`, else by the variable `LARDER_CONFIG`. `larder \
     check` reports what results from it, and `larder config schema` prints a JSON schema.",
    "Sizes and durations have units: `64MiB` is 64 times 1024 times 1024 bytes, `64MB` is 64 \
     million bytes; durations are written as `500ms`, `30s`, `5m`, `12h` or `30d`.",
    "On SIGHUP the file is read again. A faulty one is logged, and the old settings stay.",
    "As soon as one registry is configured, only the configured ones exist.",
];

fn section(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

fn write_table(page: &mut Roff, table: &TableInfo) {
    section(page, if table.title.is_empty() { "TOP LEVEL" } else { table.title.trim_matches('`') });
    paragraphs(page, "PP", table.doc);
    for key in table.keys {
        page.control("TP", []).text([bold(key.name)]);
        paragraphs(page, "IP", key.doc);
        page.control("IP", []).text(inlines(&format!("Default: {}", key.default_words())));
    }
}

/// Writes paragraphs of Markdown; `macro_name` begins each but the first below a tag.
fn paragraphs(page: &mut Roff, macro_name: &str, markdown: &str) {
    let mut is_first = macro_name == "IP";
    for block in markdown.trim().split("\n\n") {
        let lines: Vec<&str> =
            block.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        if let [fence, code @ .., _] = lines.as_slice()
            && fence.starts_with("```")
        {
            page.control("PP", []).control("RS", ["4"]).control("nf", []);
            for line in code {
                page.text([roman(*line)]);
            }
            page.control("fi", []).control("RE", []);
            continue;
        }
        if !std::mem::take(&mut is_first) {
            page.control(macro_name, []);
        }
        page.text(inlines(&lines.join(" ")));
    }
}

/// Code as bold, and links as their text.
fn inlines(markdown: &str) -> Vec<Inline> {
    let text = without_links(markdown);
    let parts = text.split('`').enumerate();
    let parts = parts.filter(|(_, part)| !part.is_empty());
    parts.map(|(at, part)| if at % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

fn without_links(markdown: &str) -> String {
    let mut parts = markdown.split("](");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // The last bracket that is open belongs to the link.
        if let Some(at) = text.rfind('[') {
            text.remove(at);
        }
        text.push_str(part.split_once(')').map_or(part, |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn code_is_bold_and_links_are_their_text() {
        let mut page = Roff::new();
        page.text(inlines("As `[tls]` and [`a` way](docs/x.md#y), `\"0\"` of [b](c)."));
        assert_eq!(page.to_roff(), "As \\fB[tls]\\fR and \\fBa\\fR way, \\fB\"0\"\\fR of b.\n");
    }

    #[test]
    fn every_key_with_its_default_is_on_the_page() {
        let page = manual();
        for table in TABLES {
            for key in table.keys {
                assert!(page.contains(&format!(".TP\n\\fB{}\\fR\n", key.name)), "{}", key.name);
            }
        }
        assert!(page.contains("Default: \\fB\"64MiB\"\\fR"), "{page}");
        assert!(page.contains("\\fBLARDER_CACHE_DIR\\fR\ncache.dir"), "{page}");
        for markdown in ["](", "```", "`"] {
            let line =
                page.lines().find(|line| line.contains(markdown) && !line.starts_with(".ie"));
            assert_eq!(line, None, "{markdown} is left");
        }
    }

    /// Formatters warn of what they do not understand, and leave it out.
    #[test]
    fn man_renders_the_page_without_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("larder.toml.5");
        std::fs::write(&path, manual()).unwrap();
        let mut checked = 0;
        for (program, arguments) in [
            ("man", &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"][..]),
            ("groff", &["-k", "-man", "-ww", "-z", "-Tutf8"]),
            ("mandoc", &["-T", "lint", "-W", "warning"]),
        ] {
            let run =
                Command::new(program).args(arguments).arg(&path).env("MANPAGER", "cat").output();
            let Ok(run) = run else { continue };
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            assert!(run.status.success() && said.is_empty(), "{program}: {said}");
            checked += 1;
        }
        if checked == 0 {
            println!("skipped: neither man nor groff nor mandoc is here");
        }
    }
}
