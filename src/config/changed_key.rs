//! Keys that differ from their defaults, as `larder check` lists them.

use std::fmt;

use serde_json::Value;
use toml::de::DeValue;

use super::diagnostics::SourcePlace;

/// A key that was given another value than its default.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedKey {
    /// Its full name.
    pub key: String,
    /// The place of the value.
    pub place: SourcePlace,
    /// The value as it was written; `None` if it is secret.
    pub value: Option<Value>,
    /// The default; `None` if there is none, or if other keys decide it.
    pub default: Option<Value>,
}

/// The key as TOML, with its default as a comment. A secret value is left out.
impl fmt::Display for ChangedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, default, .. } = self;
        match value {
            Some(value) => write!(f, "{key} = {value}")?,
            None => write!(f, "{key} is secret")?,
        }
        default.as_ref().map_or(Ok(()), |default| write!(f, "  # default: {default}"))
    }
}

/// A value without tables, as JSON.
pub(super) fn json_of(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::Array(items) => {
            items.iter().map(|item| json_of(item.get_ref())).collect::<Option<Vec<_>>>()?.into()
        }
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Float(number) => number.as_str().into(),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or_else(|_| number.as_str().into(), Value::from)
        }
        DeValue::String(text) => (&**text).into(),
        DeValue::Table(_) => return None,
    })
}

/// The title of types whose values are shown nowhere.
pub(super) const SECRET_TITLE: &str = "secret";
