//! Figures of the code's shape, most of them with a ceiling, which may only fall.
//!
//! `cargo test --test tidy -- --nocapture figures` prints the table. Two variables change it:
//!
//! - `LARDER_FIGURES_SRC`: the `src` of another checkout, to measure that one; no ceiling holds.
//! - `LARDER_FIGURES_LIST`: a part of a figure's name, to list what it counted.
//!
//! Each part says how it counts. All of them leave out tests: `tests.rs`, folders `tests`, and what
//! is marked `#[cfg(test)]`. Only whole modules with that mark count as lines of tests.

mod files;
mod functions;
mod prose;
mod types;

use std::env;
use std::path::{Path, PathBuf};

use crate::circles;
use crate::source::CrateSource;

/// One row of the table.
struct Figure {
    name: &'static str,
    value: f64,
    /// The test fails above this. Lower it when the value has fallen; never raise it.
    ceiling: Option<f64>,
    /// The places or names that were counted.
    found: Vec<String>,
}

impl Figure {
    fn new(name: &'static str, value: f64) -> Self {
        Self { name, value, ceiling: None, found: Vec::new() }
    }

    fn ceiling(self, ceiling: f64) -> Self {
        Self { ceiling: Some(ceiling), ..self }
    }

    fn found(self, found: Vec<String>) -> Self {
        Self { found, ..self }
    }

    fn is_above(&self) -> bool {
        self.ceiling.is_some_and(|ceiling| self.value > ceiling)
    }

    fn row(&self) -> String {
        let Some(ceiling) = self.ceiling else {
            return format!("{:<58} {:>8.1}", self.name, self.value);
        };
        let hint = match ceiling {
            _ if self.is_above() => "  above its ceiling",
            _ if self.value < ceiling * 0.98 - 0.1 => "  lower its ceiling",
            _ => "",
        };
        format!("{:<58} {:>8.1} {:>8.1}{hint}", self.name, self.value, ceiling)
    }
}

#[test]
fn figures_stay_below_their_ceilings() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let other = env::var_os("LARDER_FIGURES_SRC").map(PathBuf::from);
    let figures = measure(other.as_deref().unwrap_or(&own));

    println!("{:<58} {:>8} {:>8}", "figure", "value", "ceiling");
    for figure in &figures {
        println!("{}", figure.row());
    }
    let listed = env::var_os("LARDER_FIGURES_LIST").map(|part| part.to_string_lossy().into_owned());
    for figure in figures.iter().filter(|f| listed.as_ref().is_some_and(|l| f.name.contains(l))) {
        println!("\n{}:\n  {}", figure.name, figure.found.join("\n  "));
    }
    let above: Vec<_> = figures.iter().filter(|f| f.is_above()).map(Figure::row).collect();
    assert!(other.is_some() || above.is_empty(), "\n{}\n", above.join("\n"));
}

fn measure(src: &Path) -> Vec<Figure> {
    let code = CrateSource::read(src);
    let checkout = src.parent().expect("src stands in a checkout");
    let mut figures = functions::figures(&code);
    figures.extend(files::figures(&code, checkout));
    figures.extend(types::figures(&code));
    figures.extend(prose::figures(&code, checkout));
    figures.push(circles(&code));
    figures
}

fn circles(code: &CrateSource) -> Figure {
    let circles = circles::circles(code);
    let files = circles.iter().map(Vec::len).sum();
    Figure::new("files that use each other in a circle", count(files))
        .ceiling(0.0)
        .found(circles.iter().map(|files| files.join(" ")).collect())
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).expect("a count of source"))
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * count(part) / count(whole.max(1))
}

/// The value that `percent` of the sorted values do not reach.
fn percentile(sorted: &[usize], percent: usize) -> f64 {
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len() - 1))
        .map_or(0.0, |value| count(*value))
}
