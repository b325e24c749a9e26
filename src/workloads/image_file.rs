//! Which kind of file it is, and what is found in it.

use std::io::Read;

use super::listed_image::{
    FILE_BYTES_MAX, FilePlace, IMAGES_MAX, ImageFileError, ImageTextFault, ListedImage,
    TEXT_BYTES_MAX,
};
use super::yaml_images::yaml_images;

/// The images that a file names, in its order. Blocks.
///
/// # Errors
///
/// If it cannot be read, is too long or no text, or names no image.
pub fn read_images(file: impl Read) -> Result<Vec<ListedImage>, ImageFileError> {
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(ImageFileError::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ImageFileError::TooLong);
    }
    let text = String::from_utf8(bytes).map_err(|_| ImageFileError::NoText)?;
    let text = text.trim_start_matches('\u{feff}');
    let images = if is_yaml(text) { yaml_images(text)? } else { listed_images(text)? };
    let is_built = |image: &ListedImage| image.name == Err(ImageTextFault::Built);
    if images.iter().all(is_built) { Err(ImageFileError::Empty) } else { Ok(images) }
}

/// Whether a text is YAML, JSON included, by its first line that says something.
fn is_yaml(text: &str) -> bool {
    let first = lines(text).next().map(|(_, line)| line).unwrap_or_default();
    let begins = ["---", "- ", "{", "[", "%"].iter().any(|start| first.starts_with(start));
    begins || first.ends_with(':') || first.contains(": ")
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    numbered.filter(|(_, line)| !matches!(line.trim_start().chars().next(), None | Some('#')))
}

fn listed_images(text: &str) -> Result<Vec<ListedImage>, ImageFileError> {
    let mut images = Vec::new();
    for (line, text) in lines(text) {
        let name = text.trim_start();
        let column = text.chars().count() - name.chars().count() + 1;
        let place = FilePlace { line, column };
        if images.len() == IMAGES_MAX {
            return Err(ImageFileError::TooMany(place));
        }
        let is_short = name.len() <= TEXT_BYTES_MAX;
        let name = if is_short { Ok(name.to_owned()) } else { Err(ImageTextFault::TooLong) };
        images.push(ListedImage { name, place, is_required: true });
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::workloads::listed_image::DEPTH_MAX;

    fn names(text: &str) -> Vec<String> {
        let images = read_images(text.as_bytes()).unwrap();
        images.into_iter().map(|image| image.name.unwrap()).collect()
    }

    #[test]
    fn a_list_has_a_name_on_each_line() {
        let list = "\u{feff}# ours\n\n  alpine:3.20\r\nghcr.io/o/a@sha256:ab\n#quay.io/x\n";
        assert_eq!(names(list), ["alpine:3.20", "ghcr.io/o/a@sha256:ab"]);
        let images = read_images("# a\n  two words\n".as_bytes()).unwrap();
        assert_eq!(images[0].name.as_deref(), Ok("two words"));
        assert!(images[0].is_required);
        assert_eq!(images[0].place.to_string(), "2:3");
        assert_eq!(names("localhost:5000/a:1\n"), ["localhost:5000/a:1"]);
    }

    #[test]
    fn what_is_no_file_of_images_is_told_with_the_reason() {
        let long = "x".repeat((16 << 20) + 1);
        let many = "a\n".repeat(IMAGES_MAX + 1);
        let deep = format!("a: {}", "[".repeat(DEPTH_MAX + 1));
        for (text, why, place) in [
            (b"\xff\xfe".as_slice(), "it is not UTF-8", ""),
            (b"", "it names no image", ""),
            (b"# nothing\n", "it names no image", ""),
            (b"a: b\n", "it names no image", ""),
            (long.as_bytes(), "it has more than 16 MiB", ""),
            (many.as_bytes(), "it names more than 10000 images", "10001:1"),
            (deep.as_bytes(), "nested more than 200 levels", "1:203"),
            (b"a: b\n  image: c\n", "mapping values are not allowed", "2:8"),
            (b"kind: Pod\n image: {{ .Values.image }}\n", "", "2:"),
        ] {
            let error = read_images(text).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            let found = error.place().map(|place| place.to_string()).unwrap_or_default();
            assert!(found.starts_with(place), "{error}: {found}");
        }
        let failing = ImageFileError::Unreadable(io::ErrorKind::TimedOut.into());
        assert_eq!(failing.to_string(), "timed out");
        let template = read_images("a:\n  image: {{ .Values.image }}:{{ x }}\n".as_bytes());
        assert!(template.unwrap_err().hint().unwrap().contains("helm template"));
    }
}
