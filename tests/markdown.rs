//! The parts of a Markdown file that tests hold it to: fenced blocks, headings and links.
//!
//! It reads the plain Markdown of this repository and no more: fences begin a line, headings begin
//! with `#`, links are inline.

use std::fs;
use std::path::{Path, PathBuf};

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The file and line of its opening fence, for messages.
    pub place: String,
    /// The word after the fence.
    pub language: String,
    /// The configuration file that it is: the last one that its section names above it. Empty for a
    /// shell block, and where there is none.
    pub file: String,
    /// Its lines.
    pub text: String,
}

/// All Markdown files of the repository, with their paths in it.
pub fn files() -> Vec<(PathBuf, String)> {
    let root = root();
    let dirs = ["", "docs", "docs/decisions"].map(|dir| root.join(dir));
    let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("Markdown is UTF-8");
            (path.strip_prefix(root).expect("it is in the repository").to_owned(), text)
        })
        .collect()
}

/// The blocks of one file of the repository.
pub fn blocks_of(file: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(file)).expect("it is in the repository");
    blocks(Path::new(file), &text)
}

/// The blocks of a text, in their order.
pub fn blocks(path: &Path, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_inside = false;
    let mut file = String::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            is_inside = !is_inside;
            if is_inside {
                let place = format!("{}:{}", path.display(), index + 1);
                let file = if language == "sh" { String::new() } else { file.clone() };
                let language = language.to_owned();
                found.push(Block { place, language, file, text: String::new() });
            }
        } else if let (true, Some(block)) = (is_inside, found.last_mut()) {
            block.text.push_str(line);
            block.text.push('\n');
        } else if line.starts_with('#') {
            file.clear();
        } else if let Some(named) = configuration_file(line) {
            named.clone_into(&mut file);
        }
    }
    found
}

/// The anchors of a text's headings, as GitHub makes them.
pub fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept =
                title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The targets of a text's links.
pub fn links(text: &str) -> Vec<String> {
    let links = prose(text).flat_map(|line| line.split("](").skip(1));
    links.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The lines outside of fences.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// The last code span of a line that is the absolute path of a configuration file.
fn configuration_file(line: &str) -> Option<&str> {
    let spans = line.split('`').skip(1).step_by(2);
    let is_file = |span: &&str| {
        let extensions = [".toml", ".json", ".conf", ".yaml"];
        span.starts_with('/') && extensions.iter().any(|extension| span.ends_with(extension))
    };
    spans.filter(is_file).last()
}
