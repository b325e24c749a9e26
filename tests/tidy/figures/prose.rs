//! How comments read.

use std::fs;
use std::path::Path;

use super::{Figure, count, percent};
use crate::source::{CrateSource, files_under};

const COLUMNS_MAX: usize = 100;
const OPENERS: &[&str] = &["What", "Who", "Whoever", "Of", "That", "Where"];
const NOBODIES: &[&str] = &["nobody", "somebody", "whoever", "whom"];

/// - A comment is a line that begins with `//`; neighbouring lines of one kind are one text. A
///   blank line, list item, heading, table row or fence ends a sentence, and so do `.`, `?` and `!`
///   at the end of a word. Fenced code is not prose.
/// - A question may begin with any word.
/// - A line's columns are its characters. Table rows of Markdown cannot be wrapped and do not
///   count, nor does a line without a space, as a URL is.
pub(super) fn figures(code: &CrateSource, checkout: &Path) -> Vec<Figure> {
    let code = code.files.iter().map(|file| Text::of_comments(&file.path, &file.text)).collect();
    let beside = ["src", "tests", "benches"].into_iter().flat_map(|folder| {
        let files = files_under(&checkout.join(folder), "rs").into_iter();
        files.map(move |(path, text)| Text::of_comments(&Path::new(folder).join(path), &text))
    });
    let (code, all): (Vec<_>, Vec<_>) = (code, beside.collect());
    let markdown: Vec<_> = markdown(checkout);
    vec![
        sentences_with("comment sentences begun with What, Who, Of…, %", &code, has_opener)
            .ceiling(0.2),
        sentences_with("... with tests and benches, %", &all, has_opener).ceiling(0.2),
        sentences_with("... in Markdown, %", &markdown, has_opener).ceiling(0.1),
        sentences_with("comment sentences with nobody, whom…, %", &code, has_nobody).ceiling(0.0),
        sentences_with("... with tests and benches, %", &all, has_nobody).ceiling(0.1),
        sentences_with("... in Markdown, %", &markdown, has_nobody).ceiling(0.1),
        long_lines("comment lines over 100 columns", &all).ceiling(0.0),
        long_lines("Markdown lines over 100 columns", &markdown).ceiling(0.0),
    ]
}

fn sentences_with(name: &'static str, texts: &[Text], has: fn(&str) -> bool) -> Figure {
    let sentences = texts.iter().flat_map(|text| text.sentences.iter().map(move |s| (text, s)));
    let all = sentences.clone().count();
    let found: Vec<_> = sentences
        .filter(|(_, sentence)| has(sentence))
        .map(|(text, sentence)| format!("{}: {sentence}", text.path))
        .collect();
    Figure::new(name, percent(found.len(), all)).found(found)
}

fn long_lines(name: &'static str, texts: &[Text]) -> Figure {
    let found: Vec<_> = texts.iter().flat_map(|text| text.long_lines.iter().cloned()).collect();
    Figure::new(name, count(found.len())).found(found)
}

/// The prose of one file.
struct Text {
    path: String,
    sentences: Vec<String>,
    /// With their places.
    long_lines: Vec<String>,
}

impl Text {
    fn of_comments(path: &Path, text: &str) -> Self {
        let long = long_lines_of(path, text, |line| line.trim_start().starts_with("//"));
        Self {
            path: path.display().to_string(),
            sentences: sentences(&comments(text)),
            long_lines: long,
        }
    }

    fn of_markdown(path: &Path, text: &str) -> Self {
        let long = long_lines_of(path, text, |line| !line.starts_with('|'));
        Self { path: path.display().to_string(), sentences: sentences(text), long_lines: long }
    }
}

/// The Markdown at the top level and under `docs` and `tests`.
fn markdown(checkout: &Path) -> Vec<Text> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(checkout).expect("the top level is readable") {
        let path = entry.expect("the top level is readable").path();
        if path.extension().is_some_and(|ext| ext == "md") {
            let text = fs::read_to_string(&path).expect("Markdown is UTF-8");
            texts.push(Text::of_markdown(path.file_name().expect("a file").as_ref(), &text));
        }
    }
    for folder in ["docs", "tests"] {
        for (path, text) in files_under(&checkout.join(folder), "md") {
            texts.push(Text::of_markdown(&Path::new(folder).join(path), &text));
        }
    }
    texts
}

fn long_lines_of(path: &Path, text: &str, counts: fn(&str) -> bool) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| {
        counts(line) && line.chars().count() > COLUMNS_MAX && line.trim().contains(' ')
    });
    lines.map(|(index, _)| format!("{}:{}", path.display(), index + 1)).collect()
}

fn has_opener(sentence: &str) -> bool {
    let first = sentence.split(|c: char| !c.is_alphanumeric() && c != '\'').find(|w| !w.is_empty());
    !sentence.ends_with('?') && first.is_some_and(|first| OPENERS.contains(&first))
}

fn has_nobody(sentence: &str) -> bool {
    let words = sentence.split(|c: char| !c.is_alphanumeric());
    words.map(str::to_lowercase).any(|word| NOBODIES.contains(&&*word))
}

/// The comments as Markdown, apart from each other by blank lines.
fn comments(text: &str) -> String {
    let mut markdown = String::new();
    let mut last_marker = "";
    for line in text.lines().map(str::trim_start) {
        let marker = ["//!", "///", "//"].into_iter().find(|marker| line.starts_with(marker));
        let marker = marker.unwrap_or_default();
        if marker != last_marker {
            markdown.push('\n');
        }
        last_marker = marker;
        if !marker.is_empty() {
            markdown.push_str(&line[marker.len()..]);
            markdown.push('\n');
        }
    }
    markdown
}

fn sentences(markdown: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut is_code = false;
    for line in markdown.lines().map(str::trim) {
        let is_fence = line.starts_with("```");
        is_code ^= is_fence;
        let item = line.strip_prefix("- ").or(line.strip_prefix("* "));
        if line.is_empty() || is_fence || line.starts_with(['#', '|']) || item.is_some() {
            found.push(String::new());
        }
        if is_code || is_fence {
            continue;
        }
        for word in item.unwrap_or(line).split_whitespace() {
            let sentence = found.last_mut().expect("begins with one");
            sentence.push_str(if sentence.is_empty() { "" } else { " " });
            sentence.push_str(word);
            if word.trim_end_matches(['"', ')', '*', '`']).ends_with(['.', '?', '!']) {
                found.push(String::new());
            }
        }
    }
    found.retain(|sentence| sentence.chars().any(char::is_alphabetic));
    found
}
