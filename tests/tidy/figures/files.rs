//! How long files are, and how much code stands beside how many tests.

use std::path::Path;

use super::{Figure, count, percentile};
use crate::source::{CrateSource, files_under};

/// Lines are all lines, blank ones and comments included. Tests are those under `src` and `tests/`.
pub(super) fn figures(code: &CrateSource, checkout: &Path) -> Vec<Figure> {
    let lines_of = |text: &str| text.lines().count();
    let mut lines: Vec<_> = code.files.iter().map(|file| lines_of(&file.text)).collect();
    lines.sort_unstable();
    let long = code.files.iter().filter(|file| lines_of(&file.text) > 400);
    let long: Vec<_> = long.map(|file| file.path.display().to_string()).collect();
    let text = code.files.iter().flat_map(|file| file.text.lines());
    let filled = text.filter(|line| !line.trim().is_empty()).count();
    let tests = files_under(&checkout.join("tests"), "rs");
    let tests: usize = tests.iter().map(|(_, text)| lines_of(text)).sum();
    let tests = tests + code.test_lines;
    vec![
        Figure::new("files", count(lines.len())),
        Figure::new("file lines, median", percentile(&lines, 50)),
        Figure::new("file lines, p90", percentile(&lines, 90)),
        Figure::new("file lines, most", percentile(&lines, 100)).ceiling(400.0),
        Figure::new("files over 400 lines", count(long.len())).ceiling(0.0).found(long),
        Figure::new("src without tests, lines", count(code.lines())).ceiling(67_900.0),
        Figure::new("src without tests, lines that are not blank", count(filled)),
        Figure::new("lines of tests for each line of code", count(tests) / count(code.lines())),
    ]
}
