//! Walks the tables of a configuration: knows where it is, notes each mistake, goes on.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::{Table, Value};

use super::Problem;

/// The mistakes and doubts of one configuration. Shared by all of its sections.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Problems {
    pub(super) fn into_errors_and_warnings(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }

    fn error(&self, key: String, reason: String, hint: String) {
        self.errors.borrow_mut().push(Problem { key, reason, hint });
    }
}

/// One table, and which of its keys have been asked for: the others are unknown.
#[derive(Debug)]
pub(super) struct Section<'t> {
    /// `None` when the section is left out: every key has its default.
    table: Option<&'t Table>,
    path: String,
    asked: Vec<&'static str>,
    problems: &'t Problems,
}

/// One value, and the key that it is at.
#[derive(Debug, Clone)]
pub(super) struct Item<'t> {
    value: &'t Value,
    key: String,
    problems: &'t Problems,
}

impl<'t> Section<'t> {
    pub(super) fn root(table: &'t Table, problems: &'t Problems) -> Section<'t> {
        Section { table: Some(table), path: String::new(), asked: Vec::new(), problems }
    }

    pub(super) fn section(&mut self, key: &'static str) -> Section<'t> {
        let table = self.optional(key).and_then(|item| {
            let table = item.value.as_table();
            if table.is_none() {
                item.mismatch::<()>("a table", &format!("write it under [{}]", item.key));
            }
            table
        });
        Section { table, path: self.key(key), asked: Vec::new(), problems: self.problems }
    }

    pub(super) fn optional(&mut self, key: &'static str) -> Option<Item<'t>> {
        self.asked.push(key);
        let value = self.table?.get(key)?;
        Some(Item { value, key: self.key(key), problems: self.problems })
    }

    pub(super) fn required(&mut self, key: &'static str) -> Option<Item<'t>> {
        let item = self.optional(key);
        if item.is_none() {
            self.error(key, "is required", "");
        }
        item
    }

    /// A number with a default.
    pub(super) fn integer<T>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        self.optional(key).and_then(|item| item.integer(range)).unwrap_or(default)
    }

    pub(super) fn error(&self, key: &str, reason: impl Into<String>, hint: impl Into<String>) {
        self.problems.error(self.key(key), reason.into(), hint.into());
    }

    pub(super) fn warning(&self, key: &str, reason: impl Into<String>, hint: impl Into<String>) {
        let (reason, hint) = (reason.into(), hint.into());
        let problem = Problem { key: self.key(key), reason, hint };
        self.problems.warnings.borrow_mut().push(problem);
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.into_iter().flat_map(Table::keys) {
            if !self.asked.contains(&key.as_str()) {
                self.error(key, "unknown key", format!("known here: {}", self.asked.join(", ")));
            }
        }
    }

    fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'t> Item<'t> {
    pub(super) fn text(&self) -> Option<&'t str> {
        self.value.as_str().or_else(|| self.mismatch("a string", ""))
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mismatch("true or false", ""))
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = self.value.as_integer().and_then(|number| T::try_from(number).ok());
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        number.filter(|number| range.contains(number)).or_else(|| self.mismatch(&expected(), ""))
    }

    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let choice = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if choice.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.error(format!("{text:?} is not known"), format!("write {}", words.join(" or ")));
        }
        choice
    }

    /// The readable items of a list.
    pub(super) fn items<T>(&self, mut read: impl FnMut(&Item<'t>) -> Option<T>) -> Vec<T> {
        let Some(list) = self.value.as_array() else {
            self.mismatch::<()>("a list", "write it in [ ]");
            return Vec::new();
        };
        let item = |(index, value)| {
            let key = format!("{}[{index}]", self.key);
            read(&Item { value, key, problems: self.problems })
        };
        list.iter().enumerate().filter_map(item).collect()
    }

    /// The readable items of a list in which each may be once.
    pub(super) fn distinct<T: PartialEq + Clone + Display>(
        &self,
        mut read: impl FnMut(&Item<'t>) -> Option<T>,
    ) -> Vec<T> {
        let mut seen: Vec<T> = Vec::new();
        self.items(|item| {
            let value = read(item)?;
            if seen.contains(&value) {
                item.error(format!("{value} is in the list already"), "remove it");
                return None;
            }
            seen.push(value.clone());
            Some(value)
        })
    }

    pub(super) fn is_empty_list(&self) -> bool {
        self.value.as_array().is_some_and(Vec::is_empty)
    }

    pub(super) fn error(&self, reason: impl Into<String>, hint: impl Into<String>) {
        self.problems.error(self.key.clone(), reason.into(), hint.into());
    }

    fn mismatch<T>(&self, expected: &str, hint: &str) -> Option<T> {
        let found = match self.value {
            Value::String(text) => format!("the string {text:?}"),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Boolean(value) => value.to_string(),
            Value::Datetime(_) => "a date".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        };
        self.error(format!("expected {expected}, found {found}"), hint);
        None
    }
}
