//! An image that a file names, and why a text or a file has none.

use std::fmt;
use std::io;

/// An image that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedImage {
    /// Its name, as clients write it, or the reason that it has none.
    pub name: Result<String, ImageTextFault>,
    /// The place of the name.
    pub place: FilePlace,
    /// Whether it is where an image has to be: on a line of a list, in a container of Kubernetes,
    /// or in a service of compose. Other keys `image` may have a picture.
    pub is_required: bool,
}

/// A place in a file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePlace {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a text at a key `image` names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageTextFault {
    /// A variable without a default.
    #[error("the variable `{0}` has no default")]
    Unset(String),
    /// A dollar with something else behind it than a variable that compose knows.
    #[error("`{0}` is no variable of compose")]
    NoVariable(String),
    /// The image of a service that is built.
    #[error("the service is built, not pulled")]
    Built,
    /// A brace that is not closed.
    #[error("`${{` is not closed")]
    Unclosed,
    /// The values of a chart that leave the tag to the chart.
    #[error("`{0}` has neither a tag nor a digest")]
    NoTag(String),
    /// An alias of more than a text.
    #[error("the alias is not one of a text")]
    AliasOfMore,
    /// A text that is longer than any name.
    #[error("it has more than {TEXT_BYTES_MAX} bytes")]
    TooLong,
}

impl ImageTextFault {
    /// Advice, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unset(_) | Self::Unclosed => Some(
                "set the variables first: `docker compose config | larder warm --file -`, or \
                 `envsubst`",
            ),
            Self::NoVariable(_) => {
                Some("`${NAME:-default}` and `${NAME-default}` are known; `$$` is a dollar")
            }
            Self::Built => Some("name its image on the command line if it is pulled after all"),
            Self::NoTag(_) => {
                Some("let the chart say it: `helm template … | larder warm --file -`")
            }
            Self::AliasOfMore | Self::TooLong => None,
        }
    }
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[source] io::Error),
    /// It is longer than it may be.
    #[error("it has more than {} MiB", FILE_BYTES_MAX >> 20)]
    TooLong,
    /// It is no text.
    #[error("it is not UTF-8")]
    NoText,
    /// It is not YAML.
    #[error("{why}")]
    Syntax {
        /// The place.
        place: FilePlace,
        /// The reason.
        why: String,
        /// Whether it looks like a template that is not rendered.
        is_template: bool,
    },
    /// It is nested more deeply than it may be.
    #[error("it is nested more than {DEPTH_MAX} levels deep")]
    TooDeep(FilePlace),
    /// It names more images than it may.
    #[error("it names more than {IMAGES_MAX} images")]
    TooMany(FilePlace),
    /// It names none.
    #[error("it names no image")]
    Empty,
}

impl ImageFileError {
    /// The place, if it is one.
    pub fn place(&self) -> Option<FilePlace> {
        match self {
            Self::Syntax { place, .. } | Self::TooDeep(place) | Self::TooMany(place) => {
                Some(*place)
            }
            _ => None,
        }
    }

    /// Advice, if there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Syntax { is_template: true, .. } => {
                Some("render the chart first: `helm template NAME CHART | larder warm --file -`")
            }
            Self::Syntax { .. } | Self::Empty => Some(
                "it has a name on each line, or is the YAML of compose or Kubernetes, with names \
                 at keys `image`",
            ),
            Self::TooLong | Self::TooDeep(_) | Self::TooMany(_) => Some("split the file"),
            Self::Unreadable(_) | Self::NoText => None,
        }
    }
}

/// Charts with all the definitions of their resources take some MiB.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// Manifests of Kubernetes have 20 levels, definitions of resources 60.
pub(super) const DEPTH_MAX: usize = 200;

/// More than a cluster runs, and an end for a file that was made to have none.
pub(super) const IMAGES_MAX: usize = 10_000;

/// A repository has 255 bytes at most, a tag 128, a digest 135.
pub(super) const TEXT_BYTES_MAX: usize = 1024;
