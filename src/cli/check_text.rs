//! Problems of a configuration as `larder check` shows them on a terminal: in colours, with the
//! line of the file.
//!
//! A line may hold a password, also behind a misspelt key. So values are shown only if the message
//! itself shows them, or if they are numbers.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use clap::builder::styling::{AnsiColor, Style};

use crate::config::{Diagnostic, Environment, SourcePlace};

/// The form of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemForm {
    /// With the line of the file, in colours.
    Coloured,
    /// Without either.
    Plain,
    /// With the line of the file.
    Quoted,
}

impl ProblemForm {
    /// The form for stderr.
    pub(super) fn of_stderr(environment: &Environment) -> Self {
        // https://no-color.org
        match (std::io::stderr().is_terminal(), environment.value("NO_COLOR")) {
            (false, _) => Self::Plain,
            (true, None) => Self::Coloured,
            (true, Some(_)) => Self::Quoted,
        }
    }

    /// An error.
    pub(super) fn error(self, problem: &Diagnostic) -> String {
        self.render("error", AnsiColor::Red, problem)
    }

    /// A warning: on one line where it has no line of the file.
    pub(super) fn warning(self, problem: &Diagnostic) -> String {
        if self == Self::Plain {
            return format!("warning: {}\n", problem.to_line());
        }
        self.render("warning", AnsiColor::Yellow, problem)
    }

    fn render(self, severity: &str, colour: AnsiColor, problem: &Diagnostic) -> String {
        let (strong, frame) = match self {
            Self::Coloured => (colour.on_default().bold(), AnsiColor::Blue.on_default().bold()),
            Self::Plain | Self::Quoted => (Style::new(), Style::new()),
        };
        let mut parts = vec![format!("{strong}{severity}{strong:#}: {}\n", problem.what)];
        if problem.place != SourcePlace::Nowhere {
            parts.push(format!(" {frame}-->{frame:#} {}\n", problem.place));
        }
        if let Some((number, line, caret)) = self.source_line(problem) {
            let (gap, indent) = (" ".repeat(number.len()), " ".repeat(caret));
            parts.push(format!(" {gap} {frame}|{frame:#}\n {frame}{number} |{frame:#} {line}\n"));
            parts.push(format!(" {gap} {frame}|{frame:#} {indent}{strong}^{strong:#}\n"));
        }
        for (name, value) in [(" key", &problem.key), ("hint", &problem.hint)] {
            if let Some(value) = value {
                parts.push(format!("{frame}{name}{frame:#}: {value}\n"));
            }
        }
        parts.concat()
    }

    fn source_line(self, problem: &Diagnostic) -> Option<(String, String, usize)> {
        let SourcePlace::File { path, line, column } = &problem.place else { return None };
        let text = if self == Self::Plain { None } else { read(path) }?;
        let (shown, caret) = excerpt(text.lines().nth(line - 1)?, *column, &problem.what);
        Some((line.to_string(), shown, caret))
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim_start_matches('\u{feff}').to_owned())
}

/// A line without what may be secret, and the offset of `column` in it.
fn excerpt(line: &str, column: usize, what: &str) -> (String, usize) {
    let is_header = line.trim_start().starts_with('[');
    let chars: Vec<char> = line.chars().take(LINE_CHARS_MAX).collect();
    let (mut shown, mut caret, mut at) = (String::new(), None, 0);
    while at < chars.len() && chars[at] != '#' {
        let end = token_end(&chars, at);
        if column <= end {
            caret.get_or_insert(shown.chars().count());
        }
        let token: String = chars[at..end].iter().collect();
        let next = chars[end..].iter().find(|next| !next.is_whitespace());
        let is_key = is_header && !line.contains('=') || next == Some(&'=');
        shown += &shown_token(&token, is_key, what);
        at = end;
    }
    let caret = caret.unwrap_or_else(|| shown.chars().count());
    (shown, caret)
}

/// The end of the token that begins at `at`: a string, a word, or one character of anything else.
fn token_end(chars: &[char], at: usize) -> usize {
    let rest = || chars[at + 1..].iter();
    let len = match chars[at] {
        quote @ ('"' | '\'') => {
            let mut is_escaped = false;
            let end = rest().position(|char| {
                let is_end = *char == quote && !is_escaped;
                is_escaped = quote == '"' && *char == '\\' && !is_escaped;
                is_end
            });
            end.map_or(chars.len() - at, |end| end + 2)
        }
        char if is_of_word(char) => 1 + rest().take_while(|char| is_of_word(**char)).count(),
        _ => 1,
    };
    at + len
}

fn is_of_word(char: char) -> bool {
    !char.is_whitespace() && !"=,[]{}#\"'".contains(char)
}

fn shown_token(token: &str, is_key: bool, what: &str) -> String {
    let text = token.trim_matches(['"', '\'']);
    let is_number = token.starts_with(|char: char| char.is_ascii_digit())
        && token.chars().all(|char| char.is_ascii_digit() || "._".contains(char));
    let is_sign = token.chars().count() == 1 && !token.starts_with(is_of_word);
    let is_shown = is_sign || is_key || is_number || matches!(token, "true" | "false");
    if is_shown || (!text.is_empty() && what.contains(&format!("`{text}`"))) {
        return token.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    }
    let quote = token.chars().next().filter(|char| "\"'".contains(*char));
    let quote = quote.map(String::from).unwrap_or_default();
    format!("{quote}…{quote}")
}

/// As large as a configuration can be.
const FILE_BYTES_MAX: u64 = 10 << 20;

/// A line of a wide terminal.
const LINE_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &Path, line: usize, column: usize, what: &str) -> Diagnostic {
        let place = SourcePlace::File { path: path.to_owned(), line, column };
        let (key, hint) = (Some("cache.memory".to_owned()), Some("try another".to_owned()));
        Diagnostic { what: what.to_owned(), place, key, hint }
    }

    #[test]
    fn a_problem_has_its_line_and_a_caret_below_its_column() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[cache]\nmemory = '5' # why\n").unwrap();
        let problem = problem(file.path(), 2, 10, "`5` has no unit");
        let shown = file.path().display();

        assert_eq!(
            ProblemForm::Quoted.error(&problem),
            format!(
                "error: `5` has no unit\n --> {shown}:2:10\n   |\n 2 | memory = '5' \n   |          \
                 ^\n key: cache.memory\nhint: try another\n"
            )
        );
        let coloured = ProblemForm::Coloured.error(&problem);
        assert!(coloured.starts_with("\u{1b}[1m\u{1b}[31merror\u{1b}[0m: "), "{coloured:?}");
        let plain = ProblemForm::Plain.warning(&problem);
        assert!(plain.starts_with("warning: ") && plain.lines().count() == 1, "{plain}");
    }

    /// The line of a misspelt key may hold anything.
    #[test]
    fn values_are_hidden_unless_the_message_has_them() {
        for (line, column, what, want, caret) in [
            ("pasword = \"hunter2\"", 1, "unknown key `pasword`", "pasword = \"…\"", 0),
            ("password = hunter2", 12, "invalid string", "password = …", 11),
            ("password = \"hunter2", 12, "invalid basic string", "password = \"…\"", 11),
            ("x = 'a', y = 'hunter2'", 14, "no", "x = '…', y = '…'", 13),
            ("m = 5, t = true # hunter2", 5, "no", "m = 5, t = true ", 4),
            ("[registry.'docker.io']", 1, "no", "[registry.'docker.io']", 0),
            ("u = 'htps://a'", 5, "`htps://a` is no URL", "u = 'htps://a'", 4),
            ("  \"a\\\"b\" = 'hunter2'", 3, "no", "  \"a\\\"b\" = '…'", 2),
            ("hunter2", 1, "no", "…", 0),
            ("pasword = 'key'", 1, "unknown key `pasword`", "pasword = '…'", 0),
            ("a = 1", 40, "no", "a = 1", 5),
        ] {
            assert_eq!(excerpt(line, column, what), (want.to_owned(), caret), "{line}");
        }
    }
}
