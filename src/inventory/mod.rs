//! The images in a cache directory: their tags and sizes, and what of them is missing.
//!
//! Everything here is read from the files, so it is the same beside a running server and without
//! one, and true of one moment after the other. An image is a tag, or a manifest that neither a tag
//! nor another manifest of its repository names.

mod carried;
mod detail;
mod document;
mod forecast;
mod image_set;
mod list;
mod name;
mod often_pulled;
mod pattern;
mod pin_sizes;
mod pins;
mod pulls;
mod removal;
mod row;
mod timestamp;
mod usage;
mod warm_options;

pub use carried::{CarriedImage, CarriedRoot, carried_image};
pub use detail::{ContentDetail, ImageDetail, ManifestDetail, show_image};
pub use document::{ManifestDocument, ManifestPart, PartKind};
pub use forecast::{ForecastOutcome, PullForecast};
pub use list::list_images;
pub use name::{ImageName, InvalidImageName};
pub use often_pulled::often_pulled;
pub use pattern::{ImagePattern, InvalidImagePattern};
pub use pins::{PinBook, PinError, PinPattern, PinReport};
pub use pulls::{PullRecord, list_pulls};
pub use removal::{RemovalPlan, RemovalReport, RemovalTarget, RemovedContent};
pub use row::{ImagePlatforms, ImageRow};
pub use timestamp::Timestamp;
pub use warm_options::{ImageSelection, PullThreshold, WarmOptions, own_platform};
