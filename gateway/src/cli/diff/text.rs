//! A difference as it is printed: at most 100 columns, and of long lists the beginning.

use super::{Change, Field, Kind, OrderChange};
use crate::cli::fold::fold;
use serde_json::Value;
use std::collections::HashSet;

/// Elements, and documents, of one kind that are shown.
const SHOWN: usize = 20;

/// How much is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// All, however many there are.
    pub(crate) full: bool,
}

impl Printer {
    /// Every document that differs, in the order of their names.
    pub(crate) fn changes(self, changes: &[Change]) -> String {
        let mut shown = [0; 3];
        let mut text = String::new();
        for change in changes {
            let shown = &mut shown[change.kind as usize];
            *shown += 1;
            if self.full || *shown <= SHOWN {
                text += &self.change(change);
            }
        }
        for (kind, what) in
            [(Kind::Added, "added"), (Kind::Changed, "changed"), (Kind::Removed, "removed")]
        {
            text += &self.and_more(shown[kind as usize], "", &format!("{what} documents"));
        }
        text
    }

    fn change(self, change: &Change) -> String {
        let mark = match change.kind {
            Kind::Added => '+',
            Kind::Changed => '~',
            Kind::Removed => '-',
        };
        let summary = change.summary.as_deref().filter(|summary| !summary.is_empty());
        let summary = summary.map(|summary| format!(": {summary}")).unwrap_or_default();
        let mut text = fold(&format!("{mark} "), &format!("{}{summary}", change.document));
        for field in &change.fields {
            text += &self.field(field);
        }
        text
    }

    fn field(self, Field { path, old, new }: &Field) -> String {
        match (old, new) {
            (Some(Value::Array(old)), Some(Value::Array(new))) => self.lists(path, old, new),
            (Some(Value::Array(old)), None) => self.lists(path, old, &[]),
            (None, Some(Value::Array(new))) => self.lists(path, &[], new),
            _ => {
                let text = |value: &Option<Value>| {
                    value.as_ref().map_or_else(|| "not set".to_owned(), plain)
                };
                fold("    ", &format!("{path}: {} → {}", text(old), text(new)))
            }
        }
    }

    fn lists(self, path: &str, old: &[Value], new: &[Value]) -> String {
        let lines = merged(old, new);
        if lines.is_empty() {
            let what = format!("{path}: the same {} elements in another order", new.len());
            return fold("    ", &what);
        }
        let count = |wanted: char| lines.iter().filter(|(mark, _)| *mark == wanted).count();
        let (added, removed) = (count('+'), count('-'));
        let unchanged = new.len().saturating_sub(added);
        let mut parts = Vec::new();
        for (count, what) in [(removed, "removed"), (added, "added"), (unchanged, "unchanged")] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let mut text = fold("    ", &format!("{path}: {}", parts.join(", ")));
        let mut shown = [0, 0];
        for (mark, value) in lines {
            let shown = &mut shown[usize::from(mark == '+')];
            *shown += 1;
            if self.full || *shown <= SHOWN {
                text += &fold(&format!("      {mark} "), &plain(value));
            }
        }
        text += &self.and_more(removed, "      - ", "");
        text += &self.and_more(added, "      + ", "");
        text
    }

    /// Where one policy wins over another that stood before it.
    pub(crate) fn order(self, changes: &[OrderChange], is_all: bool) -> String {
        let most = if self.full { usize::MAX } else { SHOWN };
        let mut text = String::new();
        for OrderChange { wins, over, destination } in changes.iter().take(most) {
            let what = format!(
                "EgressPolicy/{wins} wins {destination} over EgressPolicy/{over}, for pods that both \
                 select: it stands first"
            );
            text += &fold("! ", &what);
        }
        text += &self.and_more(changes.len(), "", "policies in another order");
        if !is_all {
            text += "! very many equal policies: not every change of their order was looked for\n";
        }
        text
    }

    fn and_more(self, count: usize, lead: &str, what: &str) -> String {
        match count.checked_sub(SHOWN) {
            Some(more) if more > 0 && !self.full => {
                let what = if what.is_empty() { "" } else { &format!(" {what}") };
                format!("{lead}… and {more} more{what} (--full shows all)\n")
            }
            _ => String::new(),
        }
    }
}

/// What is in one list alone, in the order of the documents: what is gone stands where it stood.
fn merged<'a>(old: &'a [Value], new: &'a [Value]) -> Vec<(char, &'a Value)> {
    let (texts_of_old, texts_of_new) = (texts(old), texts(new));
    let is_gone = |value: &&Value| !texts_of_new.contains(&value.to_string());
    let is_new = |value: &&Value| !texts_of_old.contains(&value.to_string());
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut lines = Vec::new();
    loop {
        lines.extend(std::iter::from_fn(|| old.next_if(is_gone)).map(|value| ('-', value)));
        lines.extend(std::iter::from_fn(|| new.next_if(is_new)).map(|value| ('+', value)));
        // Both go on behind an element that both have.
        if (old.next(), new.next()) == (None, None) {
            return lines;
        }
    }
}

fn texts(list: &[Value]) -> HashSet<String> {
    list.iter().map(Value::to_string).collect()
}

/// As it would stand in YAML.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if is_bare(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| format!("{key}: {}", plain(value));
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || ",[]{}\"'#".contains(c))
}
