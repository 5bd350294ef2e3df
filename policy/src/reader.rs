//! Walks a tree, knowing where it is, and collects everything that is wrong on the way. What
//! cannot be read is reported and left out, so that one mistake does not hide the next.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::error::{Errors, PolicyError};
use crate::tree::Tree;
use crate::validate::Claim;

/// The errors of one document.
#[derive(Debug)]
pub(crate) struct Report<'e> {
    pub(crate) document: String,
    pub(crate) errors: &'e mut Errors,
}

impl Report<'_> {
    /// Notes something that other documents must agree with.
    pub(crate) fn claim<T>(&self, value: T, path: impl Into<String>) -> Claim<T> {
        Claim { value, document: self.document.clone(), path: path.into() }
    }

    pub(crate) fn error(
        &mut self,
        path: impl Into<String>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors.push(PolicyError {
            document: self.document.clone(),
            path: path.into(),
            reason: reason.into(),
            hint: hint.into(),
        });
    }
}

/// A value and its place in the document.
#[derive(Debug, Clone)]
pub(crate) struct Value<'t> {
    pub(crate) tree: &'t Tree,
    pub(crate) path: String,
}

/// The fields of a map that has a fixed set of them.
#[derive(Debug)]
pub(crate) struct Fields<'t> {
    map: &'t [(String, Tree)],
    path: String,
}

impl<'t> Value<'t> {
    /// The value as text.
    pub(crate) fn text(&self, report: &mut Report<'_>) -> Option<&'t str> {
        match self.tree {
            Tree::Text(text) => Some(text),
            Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) => {
                self.mismatch("text", "put it in quotes", report)
            }
            Tree::Null | Tree::List(_) | Tree::Map(_) => self.mismatch("text", "", report),
        }
    }

    /// The value as a whole number within a range.
    pub(crate) fn integer<T>(&self, range: RangeInclusive<T>, report: &mut Report<'_>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = self.tree.as_integer().and_then(|number| T::try_from(number).ok());
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        number
            .filter(|number| range.contains(number))
            .or_else(|| self.mismatch(&expected(), "", report))
    }

    /// The value as one of a few words.
    pub(crate) fn choice<T: Copy>(
        &self,
        choices: &[(&str, T)],
        report: &mut Report<'_>,
    ) -> Option<T> {
        let text = self.text(report)?;
        let choice = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if choice.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            let hint = format!("write one of: {}", words.join(", "));
            report.error(&self.path, format!("{text:?} is not known here"), hint);
        }
        choice
    }

    /// The items of a list.
    pub(crate) fn items(&self, report: &mut Report<'_>) -> Vec<Value<'t>> {
        let Some(items) = self.tree.as_list() else {
            self.mismatch::<()>("a list", "", report);
            return Vec::new();
        };
        let item = |(index, tree)| Value { tree, path: format!("{}[{index}]", self.path) };
        items.iter().enumerate().map(item).collect()
    }

    /// A map with any keys, such as labels.
    pub(crate) fn entries(&self, report: &mut Report<'_>) -> BTreeMap<&'t str, Value<'t>> {
        let Some(map) = self.tree.as_map() else {
            self.mismatch::<()>("a map", "", report);
            return BTreeMap::new();
        };
        let entry = |(key, tree): &'t (String, Tree)| {
            (key.as_str(), Value { tree, path: join(&self.path, key) })
        };
        map.iter().map(entry).collect()
    }

    /// A map with fixed fields, unknown ones still to be refused.
    pub(crate) fn map(&self, report: &mut Report<'_>) -> Option<Fields<'t>> {
        let Some(map) = self.tree.as_map() else { return self.mismatch("a map", "", report) };
        Some(Fields { map, path: self.path.clone() })
    }

    /// A map with fixed fields: every other one is an error.
    pub(crate) fn fields(&self, known: &[&str], report: &mut Report<'_>) -> Option<Fields<'t>> {
        let fields = self.map(report)?;
        fields.refuse_unknown(known, report);
        Some(fields)
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        self.tree.as_list().is_some_and(<[Tree]>::is_empty)
    }

    fn mismatch<T>(&self, expected: &str, hint: &str, report: &mut Report<'_>) -> Option<T> {
        let reason = format!("expected {expected}, found {}", self.tree.describe());
        report.error(&self.path, reason, hint);
        None
    }
}

impl<'t> Fields<'t> {
    pub(crate) fn refuse_unknown(&self, known: &[&str], report: &mut Report<'_>) {
        for (key, _) in self.map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let similar = known.iter().find(|known| known.eq_ignore_ascii_case(key));
            let hint = match similar {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            report.error(self.path_of(key), "unknown field", hint);
        }
    }

    /// A field that may be absent. As in Kubernetes, `null` is the same as absent.
    pub(crate) fn optional(&self, key: &str) -> Option<Value<'t>> {
        let found = self.map.iter().find(|(name, tree)| name == key && *tree != Tree::Null);
        found.map(|(_, tree)| Value { tree, path: self.path_of(key) })
    }

    /// A field that must be there.
    pub(crate) fn required(&self, key: &str, report: &mut Report<'_>) -> Option<Value<'t>> {
        let found = self.optional(key);
        if found.is_none() {
            report.error(self.path_of(key), "is required", "");
        }
        found
    }

    /// A list that must be there and have an item.
    pub(crate) fn required_list(&self, key: &str, report: &mut Report<'_>) -> Option<Value<'t>> {
        let list = self.required(key, report)?;
        if list.is_empty_list() {
            report.error(&list.path, "needs at least one item", "");
        }
        Some(list)
    }

    /// The text at `outer.inner`, when there is one. Reports nothing.
    pub(crate) fn text_in(&self, outer: &str, inner: &str) -> Option<&'t str> {
        let map = self.optional(outer)?.tree.as_map()?;
        map.iter().find(|(key, _)| key == inner)?.1.as_text()
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// `.metadata.labels.app`, and `.metadata.labels["example.com/app"]` where a dot would mislead.
fn join(path: &str, key: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(is_plain) {
        format!("{path}.{key}")
    } else {
        format!("{path}[{key:?}]")
    }
}
