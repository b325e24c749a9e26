//! How is what was measured shown, and held against its bar?
//!
//! A table is Markdown with aligned columns, so that one text serves terminal and file.

use std::collections::BTreeMap;
use std::fmt;

use crate::peers::Peer;
use crate::stats::Samples;

/// A figure of a server, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Figure(pub(crate) &'static str);

/// One row's figures.
#[derive(Debug, Default)]
pub(crate) struct Table {
    series: Vec<Series>,
    bars: Vec<Bar>,
    missing: BTreeMap<Peer, String>,
}

#[derive(Debug)]
struct Series {
    figure: Figure,
    peer: Peer,
    samples: Samples,
}

/// The bar that a figure of Larder's is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    pub(crate) figure: Figure,
    pub(crate) against: Against,
    pub(crate) reach: Bound,
    pub(crate) goal: Option<Bound>,
}

/// How two figures, or one and nothing, make the number that the bar is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// Larder's less the peer's.
    Difference(Peer),
    /// Larder's over the peer's.
    Ratio(Peer),
    /// Larder's alone.
    Value,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Table {
    pub(crate) fn add(&mut self, peer: Peer, figure: Figure, value: f64) {
        let is_it = |series: &Series| (series.figure, series.peer) == (figure, peer);
        if let Some(series) = self.series.iter_mut().find(|series| is_it(series)) {
            series.samples.push(value);
            return;
        }
        let mut samples = Samples::default();
        samples.push(value);
        // Beside the others of its figure.
        let behind = self.series.iter().rposition(|series| series.figure == figure);
        let at = behind.map_or(self.series.len(), |at| at + 1);
        self.series.insert(at, Series { figure, peer, samples });
    }

    /// Larder's figure must not, or must, exceed the peer's by a factor.
    pub(crate) fn ratio(&mut self, figure: Figure, peer: Peer, reach: Bound, goal: Option<Bound>) {
        self.bars.push(Bar { figure, against: Against::Ratio(peer), reach, goal });
    }

    pub(crate) fn bar(&mut self, bar: Bar) {
        self.bars.push(bar);
    }

    /// A peer that could not be measured, and why; the first reason is kept.
    pub(crate) fn miss(&mut self, peer: Peer, reason: &anyhow::Error) {
        self.missing.entry(peer).or_insert_with(|| format!("{reason:#}"));
    }

    pub(crate) fn has_missed(&self, peer: Peer) -> bool {
        self.missing.contains_key(&peer)
    }

    fn median(&self, figure: Figure, peer: Peer) -> Option<f64> {
        let is_it = |series: &&Series| (series.figure, series.peer) == (figure, peer);
        self.series.iter().find(is_it)?.samples.median()
    }

    /// Larder's, however it was reached.
    fn ours(&self, figure: Figure) -> Option<f64> {
        let larder = self.median(figure, Peer::Larder);
        let others = [Peer::LarderTls, Peer::LarderPush];
        larder.or_else(|| others.iter().find_map(|peer| self.median(figure, *peer)))
    }

    /// The servers that were measured.
    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> {
        self.series.iter().map(|series| series.peer)
    }

    /// A line for each bar of the row of this name, under [`summary_head`].
    pub(crate) fn summary(&self, row: &str) -> String {
        let line = |[figure, against, is, reach, goal]: [String; 5]| {
            format!("| {row} | {figure} | {against} | {is} | {reach} | {goal} |\n")
        };
        self.judged().into_iter().map(line).collect()
    }

    fn measured(&self) -> Vec<[String; 5]> {
        let line = |Series { figure, peer, samples }: &Series| {
            let number = |value: Option<f64>| value.map_or_else(String::new, number);
            let (min, median, max) = (samples.min(), samples.median(), samples.max());
            [figure.0.into(), peer.name().into(), number(min), number(median), number(max)]
        };
        self.series.iter().map(line).collect()
    }

    fn judged(&self) -> Vec<[String; 5]> {
        self.bars.iter().map(|bar| bar.line(bar.value(self))).collect()
    }
}

impl Bar {
    fn value(&self, table: &Table) -> Option<f64> {
        let ours = table.ours(self.figure)?;
        match self.against {
            Against::Difference(peer) => Some(ours - table.median(self.figure, peer)?),
            Against::Ratio(peer) => Some(ours / table.median(self.figure, peer)?),
            Against::Value => Some(ours),
        }
    }

    fn line(&self, value: Option<f64>) -> [String; 5] {
        let (sign, against) = match self.against {
            Against::Difference(peer) => ("", format!("Larder − {}", peer.name())),
            Against::Ratio(peer) => ("×", format!("Larder ÷ {}", peer.name())),
            Against::Value => ("", "Larder".to_owned()),
        };
        let judged = |bound: Bound| match value {
            Some(value) => {
                let verdict = if bound.holds(value) { "PASS" } else { "MISS" };
                format!("{bound}{sign} {verdict}")
            }
            None => format!("{bound}{sign}"),
        };
        let value = value
            .map_or_else(|| "not measured".to_owned(), |value| format!("{}{sign}", number(value)));
        let goal = self.goal.map_or_else(String::new, judged);
        [self.figure.0.into(), against, value, judged(self.reach), goal]
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {}", number(*least)),
            Self::AtMost(most) => write!(f, "≤ {}", number(*most)),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_lines(f, ["figure", "server", "min", "median", "max"], &self.measured())?;
        if !self.bars.is_empty() {
            writeln!(f)?;
            write_lines(f, ["figure", "medians", "is", "reach", "goal"], &self.judged())?;
        }
        for (peer, reason) in &self.missing {
            writeln!(f, "\n{}: not measured: {reason}", peer.name())?;
        }
        Ok(())
    }
}

/// The head of a table of all bars.
pub(crate) fn summary_head() -> String {
    "| row | figure | medians | is | reach | goal |\n| --- | --- | --- | --- | --- | --- |\n"
        .to_owned()
}

fn write_lines(f: &mut fmt::Formatter<'_>, head: [&str; 5], lines: &[[String; 5]]) -> fmt::Result {
    let length = |column: usize| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let lengths: [usize; 5] = std::array::from_fn(length);
    let write = |f: &mut fmt::Formatter<'_>, cells: [&str; 5]| {
        for (cell, length) in cells.iter().zip(lengths) {
            write!(f, "| {cell:length$} ")?;
        }
        writeln!(f, "|")
    };
    write(f, head)?;
    let rule = lengths.map(|length| "-".repeat(length));
    write(f, rule.each_ref().map(String::as_str))?;
    lines.iter().try_for_each(|line| write(f, line.each_ref().map(String::as_str)))
}

/// Three digits or more that say something.
fn number(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.3}"),
        ..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
