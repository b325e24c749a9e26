//! Reads a few members of JSON that others wrote, and skips the rest.
//!
//! Nothing is held of what is skipped, so the cost is one pass over the bytes, whatever they are.
//! Members that are not asked for may be anything that is JSON: numbers of any size, a lone
//! surrogate, any depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The members of the object `json` that have these names, not read yet. The last of two with the
/// same name counts.
///
/// # Errors
///
/// If `json` is no object, or no JSON.
pub fn members<'j, const N: usize>(
    json: &'j str,
    names: &[&str; N],
) -> serde_json::Result<[Option<&'j RawValue>; N]> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = reader.deserialize_map(NamedMembers(names))?;
    reader.end()?;
    Ok(found)
}

/// At most `max` elements of a list, from its begin, not read yet; `None` if `json` is no list.
pub(super) fn elements(json: &RawValue, max: usize) -> Option<Vec<&RawValue>> {
    let mut reader = serde_json::Deserializer::from_str(json.get());
    reader.deserialize_seq(FirstElements { max }).ok()
}

struct NamedMembers<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for NamedMembers<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(at) = map.next_key_seed(NameIndex(self.0))? {
            match at.and_then(|at| found.get_mut(at)) {
                Some(member) => *member = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Reads a name as its place in the list, without a copy of it.
struct NameIndex<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for NameIndex<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIndex<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|it| *it == name))
    }
}

struct FirstElements {
    max: usize,
}

impl<'de> Visitor<'de> for FirstElements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut first = Vec::new();
        while first.len() < self.max {
            match seq.next_element()? {
                Some(element) => first.push(element),
                None => return Ok(first),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_name_and_the_last_of_two_counts() {
        let texts = |json: &'static str| {
            let found = members(json, &["a", "b"]).unwrap();
            found.map(|member| member.map(RawValue::get))
        };
        for (json, want) in [
            ("{}", [None, None]),
            (r#"{"a":1,"c":[{"a":2}],"b": {"x":1} }"#, [Some("1"), Some(r#"{"x":1}"#)]),
            (r#"{"a":1,"a":[]}"#, [Some("[]"), None]),
            (r#"{"\u0061":null}"#, [Some("null"), None]),
            (r#"{"c":"J\udcfcrgen","b":1e999}"#, [None, Some("1e999")]),
        ] {
            assert_eq!(texts(json), want, "{json}");
        }
        for bad in ["", "[]", "null", "{", "{}x", r#"{"a" 1}"#, r#"{"a":1e}"#] {
            assert!(members(bad, &["a"]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_is_read_to_its_bound() {
        let list = |json: &'static str| serde_json::from_str::<&RawValue>(json).unwrap();
        let texts = |json, max| {
            let found = elements(list(json), max)?;
            Some(found.into_iter().map(RawValue::get).collect::<Vec<_>>())
        };
        assert_eq!(texts("[1, {\"a\":2},3]", 2), Some(vec!["1", "{\"a\":2}"]));
        assert_eq!(texts("[1]", 2), Some(vec!["1"]));
        assert_eq!(texts("[]", 2), Some(vec![]));
        assert_eq!(texts("{}", 2), None);
        assert_eq!(texts("null", 2), None);
    }
}
