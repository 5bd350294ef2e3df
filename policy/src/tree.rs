//! A document as the tree of values that was written, whether as YAML or as JSON. Texts are borrowed
//! from the source wherever it has them as they are meant.

use std::borrow::Cow;
use std::collections::HashSet;

/// More values than this in one text are refused. What [`MAX_BYTES`](crate::MAX_BYTES) hold of
/// honest documents has some five million. A value takes 32 bytes, or 56 with its key.
pub(crate) const MAX_VALUES: usize = 8_000_000;

/// One value. Maps keep the order in which they are written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree<'t> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'t, str>),
    List(Vec<Tree<'t>>),
    Map(Vec<Entry<'t>>),
}

/// One key of a map, and its value.
pub(crate) type Entry<'t> = (Cow<'t, str>, Tree<'t>);

impl Tree<'_> {
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Tree::Text(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_integer(&self) -> Option<i64> {
        if let Tree::Integer(number) = self { Some(*number) } else { None }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        if let Tree::List(items) = self { Some(items) } else { None }
    }

    /// The value of a key of a map. `null` is the same as absent, as in Kubernetes.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Tree::Map(entries) = self else { return None };
        let (_, value) = entries.iter().find(|(name, _)| name == key)?;
        (*value != Tree::Null).then_some(value)
    }

    /// What was written, for "expected X, found Y".
    pub(crate) fn describe(&self) -> String {
        match self {
            Tree::Null => "nothing".to_owned(),
            Tree::Bool(value) => format!("the boolean {value}"),
            Tree::Integer(value) => format!("the number {value}"),
            Tree::Float(value) => format!("the number {value}"),
            Tree::Text(value) => format!("the text {value:?}"),
            Tree::List(_) => "a list".to_owned(),
            Tree::Map(_) => "a map".to_owned(),
        }
    }
}

/// A map while it is read. It knows its keys, so that a second one of a name can be refused.
#[derive(Debug, Default)]
pub(crate) struct MapBuilder<'t> {
    entries: Vec<Entry<'t>>,
    /// The keys of a map that is too large to be searched.
    keys: HashSet<Cow<'t, str>>,
}

impl<'t> MapBuilder<'t> {
    /// Maps have few keys: comparing with them is faster than hashing.
    const SEARCHED: usize = 16;

    pub(crate) fn has(&self, key: &str) -> bool {
        if self.keys.is_empty() {
            self.entries.iter().any(|(known, _)| known == key)
        } else {
            self.keys.contains(key)
        }
    }

    pub(crate) fn push(&mut self, key: Cow<'t, str>, value: Tree<'t>) {
        if self.entries.len() == Self::SEARCHED {
            self.keys.extend(self.entries.iter().map(|(key, _)| key.clone()));
        }
        if self.entries.len() >= Self::SEARCHED {
            self.keys.insert(key.clone());
        }
        self.entries.push((key, value));
    }

    pub(crate) fn finish(self) -> Tree<'t> {
        Tree::Map(self.entries)
    }
}
