//! Walks a tree, knowing where it is, and collects everything that is wrong on the way. What
//! cannot be read is reported and left out, so that one mistake does not hide the next.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::rc::Rc;

use crate::error::{Errors, PolicyError};
use crate::path::Path;
use crate::tree::{Entry, Tree};
use crate::validate::{Claim, Origin};

/// The errors of one document.
#[derive(Debug)]
pub(crate) struct Report<'e> {
    pub(crate) origin: Rc<Origin>,
    pub(crate) errors: &'e mut Errors,
}

impl Report<'_> {
    /// Notes something that other documents must agree with.
    pub(crate) fn claim<T>(&self, value: T, path: Path<'_>) -> Claim<T> {
        Claim { value, origin: Rc::clone(&self.origin), path: path.to_string() }
    }

    pub(crate) fn error(
        &mut self,
        path: Path<'_>,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.errors.push(PolicyError {
            file: self.origin.file.clone(),
            document: self.origin.name.clone(),
            path: path.to_string(),
            reason: reason.into(),
            hint: hint.into(),
        });
    }
}

/// A value and its place in the document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'v> {
    pub(crate) tree: &'v Tree<'v>,
    pub(crate) path: Path<'v>,
}

/// The fields of a map that has a fixed set of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'v> {
    map: &'v [Entry<'v>],
    path: &'v Path<'v>,
}

impl<'v> Value<'v> {
    /// The value as text.
    pub(crate) fn text(&self, report: &mut Report<'_>) -> Option<&'v str> {
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
            report.error(self.path, format!("{text:?} is not known here"), hint);
        }
        choice
    }

    /// The items of a list.
    pub(crate) fn items<'s>(
        &'s self,
        report: &mut Report<'_>,
    ) -> impl Iterator<Item = Value<'s>> + use<'s, 'v> {
        let items = self.tree.as_list();
        let items = items.or_else(|| self.mismatch("a list", "", report)).unwrap_or_default();
        let item = |(index, tree): (usize, &'s Tree<'s>)| Value {
            tree,
            path: Path::Index(&self.path, index),
        };
        items.iter().enumerate().map(item)
    }

    /// A map with any keys, such as labels.
    pub(crate) fn entries(&self, report: &mut Report<'_>) -> BTreeMap<&str, Value<'_>> {
        let Tree::Map(map) = self.tree else {
            self.mismatch::<()>("a map", "", report);
            return BTreeMap::new();
        };
        let entry =
            |(key, tree): &'v Entry<'v>| (&**key, Value { tree, path: Path::Key(&self.path, key) });
        map.iter().map(entry).collect()
    }

    /// A map with fixed fields, unknown ones still to be refused.
    pub(crate) fn map(&self, report: &mut Report<'_>) -> Option<Fields<'_>> {
        let Tree::Map(map) = self.tree else { return self.mismatch("a map", "", report) };
        Some(Fields { map, path: &self.path })
    }

    /// A map with fixed fields: every other one is an error.
    pub(crate) fn fields(&self, known: &[&str], report: &mut Report<'_>) -> Option<Fields<'_>> {
        let fields = self.map(report)?;
        fields.refuse_unknown(known, report);
        Some(fields)
    }

    pub(crate) fn is_empty_list(&self) -> bool {
        self.tree.as_list().is_some_and(<[Tree]>::is_empty)
    }

    fn mismatch<T>(&self, expected: &str, hint: &str, report: &mut Report<'_>) -> Option<T> {
        let reason = format!("expected {expected}, found {}", self.tree.describe());
        report.error(self.path, reason, hint);
        None
    }
}

impl<'v> Fields<'v> {
    pub(crate) fn refuse_unknown(&self, known: &[&str], report: &mut Report<'_>) {
        for (key, _) in self.map.iter().filter(|(key, _)| !known.contains(&&**key)) {
            let near = known.iter().filter(|known| slips(known, key) <= 1.max(known.len() / 5));
            let similar = near.min_by_key(|known| slips(known, key));
            let hint = match similar {
                Some(similar) => format!("did you mean {similar}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            report.error(self.path_of(key), "unknown field", hint);
        }
    }

    /// A field that may be absent. As in Kubernetes, `null` is the same as absent.
    pub(crate) fn optional(&self, key: &'v str) -> Option<Value<'v>> {
        let found = self.map.iter().find(|(name, tree)| name == key && *tree != Tree::Null);
        found.map(|(_, tree)| Value { tree, path: self.path_of(key) })
    }

    /// A field that must be there.
    pub(crate) fn required(&self, key: &'v str, report: &mut Report<'_>) -> Option<Value<'v>> {
        let found = self.optional(key);
        if found.is_none() {
            report.error(self.path_of(key), "is required", "");
        }
        found
    }

    /// A list that must be there and have an item.
    pub(crate) fn required_list(&self, key: &'v str, report: &mut Report<'_>) -> Option<Value<'v>> {
        let list = self.required(key, report)?;
        if list.is_empty_list() {
            report.error(list.path, "needs at least one item", "");
        }
        Some(list)
    }

    pub(crate) fn path_of<'k>(&self, key: &'k str) -> Path<'k>
    where
        'v: 'k,
    {
        Path::Key(self.path, key)
    }
}

/// How many slips of the fingers are between two words; the notation of a word is none.
fn slips(known: &str, written: &str) -> usize {
    let [known, written] = [known, written].map(|word| word.to_lowercase().replace(['_', '-'], ""));
    strsim::damerau_levenshtein(&known, &written)
}
