//! The page as text. Names come from clients: the template escapes all of them.

use askama::Template;

use super::figures::{ByteAmount, DashboardFigures, PartOfWhole, TopImage};
use crate::control::RegistryTraffic;

/// The whole document.
#[derive(Debug, Template)]
#[template(path = "page.html", config = "src/dashboard/askama.toml", blocks = ["live"])]
pub(super) struct DashboardPage<'f> {
    pub(super) figures: &'f DashboardFigures,
}

impl DashboardPage<'_> {
    /// All of it.
    pub(super) fn document(&self) -> Result<String, askama::Error> {
        self.render()
    }

    /// The sections that change.
    pub(super) fn live(&self) -> Result<String, askama::Error> {
        self.as_live().render()
    }

    /// The bytes that came from the cache.
    fn saved(of: &RegistryTraffic) -> ByteAmount {
        ByteAmount(of.hit_bytes)
    }

    /// The share of the requests that were hits.
    fn hits(of: &RegistryTraffic) -> PartOfWhole {
        PartOfWhole { part: of.hits, whole: of.requests }
    }

    /// The share of the bytes that came from the cache.
    fn byte_hits(of: &RegistryTraffic) -> PartOfWhole {
        PartOfWhole { part: of.hit_bytes, whole: of.bytes }
    }

    /// The lists of images, with their titles.
    fn lists(&self) -> [(&'static str, &[TopImage]); 2] {
        let images = &self.figures.images;
        [("Biggest", &images.biggest), ("Most pulled", &images.most_pulled)]
    }

    /// The heights of the bars of half hours, in hundredths of the highest one.
    fn bars(&self) -> Vec<HalfHourBar> {
        let half_hours = &self.figures.half_hours;
        let most = half_hours.iter().map(|it| it.requests).max().unwrap_or_default().max(1);
        let bars = half_hours.iter().zip(0_u64..).map(|(it, number)| HalfHourBar {
            left: number * BAR_WIDTH,
            all: it.requests * 100 / most,
            hits: it.hits * 100 / most,
        });
        bars.collect()
    }
}

/// A half hour in the strip.
struct HalfHourBar {
    left: u64,
    all: u64,
    hits: u64,
}

/// In the units of the strip's view box, with the gap.
const BAR_WIDTH: u64 = 10;
