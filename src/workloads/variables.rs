//! The variables of a compose file in the name of an image: `${NAME:-default}` (compose-spec,
//! "Interpolation").
//!
//! Only the defaults count. The environment of the command is not the one of the services, and a
//! name that depends on it would be another one tomorrow.

use super::listed_image::ImageTextFault;

/// The text with the default of each variable in its place; `$$` is a dollar.
///
/// # Errors
///
/// If a variable has none, or it is no variable that compose knows. The text has to be short: a
/// default may have variables, too.
pub(super) fn with_defaults(text: &str) -> Result<String, ImageTextFault> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(literal) = after.strip_prefix('$') {
            out.push('$');
            rest = literal;
        } else if let Some(braced) = after.strip_prefix('{') {
            let end = closing_brace(braced).ok_or(ImageTextFault::Unclosed)?;
            out.push_str(&default_of(&braced[..end])?);
            rest = &braced[end + 1..];
        } else {
            let name = name_of(after);
            let wrong: String = after.chars().take(1).collect();
            return Err(match name {
                "" => ImageTextFault::NoVariable(format!("${wrong}")),
                name => ImageTextFault::Unset(name.to_owned()),
            });
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The value of what is between the braces.
fn default_of(inner: &str) -> Result<String, ImageTextFault> {
    let name = name_of(inner);
    let operator = &inner[name.len()..];
    let operand = operator.strip_prefix(':').unwrap_or(operator);
    match operand.chars().next() {
        _ if name.is_empty() => Err(ImageTextFault::NoVariable(format!("${{{inner}}}"))),
        Some('-') => with_defaults(&operand[1..]),
        // The text for when it is set, and it is not.
        Some('+') => Ok(String::new()),
        Some('?') => Err(ImageTextFault::Unset(name.to_owned())),
        None if operator.is_empty() => Err(ImageTextFault::Unset(name.to_owned())),
        _ => Err(ImageTextFault::NoVariable(format!("${{{inner}}}"))),
    }
}

/// The name at the start of the text; empty if there is none.
fn name_of(text: &str) -> &str {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return "";
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.find(|c| !is_of_name(c)).map_or(text, |end| &text[..end])
}

/// The end of the brace that is open.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_its_default_or_an_error_that_names_it() {
        let unset = |name: &str| Err(ImageTextFault::Unset(name.to_owned()));
        let wrong = |text: &str| Err(ImageTextFault::NoVariable(text.to_owned()));
        for (text, want) in [
            ("alpine:3.20", Ok("alpine:3.20".to_owned())),
            ("alpine:${TAG:-3.20}", Ok("alpine:3.20".to_owned())),
            ("alpine:${TAG-3.20}", Ok("alpine:3.20".to_owned())),
            ("${R:-ghcr.io}/a:${T:-${V:-1}-x}", Ok("ghcr.io/a:1-x".to_owned())),
            ("a${SUFFIX:+-debug}:1", Ok("a:1".to_owned())),
            ("a$$b", Ok("a$b".to_owned())),
            ("alpine:${TAG:-}", Ok("alpine:".to_owned())),
            ("alpine:$TAG", unset("TAG")),
            ("alpine:${TAG}", unset("TAG")),
            ("alpine:${TAG:?set it}", unset("TAG")),
            ("${A:-${B}}", unset("B")),
            ("alpine:${TAG", Err(ImageTextFault::Unclosed)),
            ("ä${ö", Err(ImageTextFault::Unclosed)),
            ("alpine:${TAG?set it}", unset("TAG")),
            ("a${SUFFIX+-debug}:1", Ok("a:1".to_owned())),
            ("alpine:${TAG:=3.20}", wrong("${TAG:=3.20}")),
            ("alpine:${TAG=3.20}", wrong("${TAG=3.20}")),
            ("alpine:${TAG:}", wrong("${TAG:}")),
            ("alpine:${TAG%.*}", wrong("${TAG%.*}")),
            ("alpine:${TAG:1:2}", wrong("${TAG:1:2}")),
            ("alpine:${}", wrong("${}")),
            ("alpine:${1A:-x}", wrong("${1A:-x}")),
            ("$(REGISTRY)/a:1", wrong("$(")),
            ("alpine:$1", wrong("$1")),
            ("a$", wrong("$")),
        ] {
            assert_eq!(with_defaults(text), want, "{text}");
        }
    }
}
