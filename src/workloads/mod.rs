//! The images that a file names: a list, a compose file, or manifests of Kubernetes as `kubectl`
//! and `helm template` print them.
//!
//! It decides which texts of a file are meant as names of images. It does not decide whether they
//! are valid, nor which registry they mean: that is `inventory`'s.

mod image_file;
mod listed_image;
mod variables;
mod yaml_images;

pub use image_file::read_images;
pub use listed_image::{FilePlace, ImageFileError, ImageTextFault, ListedImage};
