//! YAML: a stream of documents.
//!
//! The parser tells events; what they build, and how much of it, is decided here. Aliases are
//! copies, bounded so that a few lines cannot ask for gigabytes. What looks like a number, a boolean
//! or nothing is read as such and never as text, also where only YAML 1.1 sees it so: a document
//! that two readers understand differently is refused by the field that wanted text.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Tag};

use crate::error::SyntaxError;
use crate::tree::{MapBuilder, Tree};

/// How deep collections may be nested. A policy has eight levels.
const MAX_DEPTH: usize = 64;
/// How much anchors and aliases may copy in one text: values, and 32 bytes of text count as one.
const MAX_COPIED: usize = 200_000;

/// The documents of the text. Those without content are left out, as `kubectl` does.
pub(crate) fn read(text: &str, max_values: usize) -> Result<Vec<Tree<'_>>, SyntaxError> {
    let mut reader = Reader { values_left: max_values, ..Reader::default() };
    for event in Parser::new_from_str_with_options(text, options()) {
        let done = match event {
            Ok((event, span)) => reader.event(event, span.start),
            Err(error) => Err(mistake(*error.marker(), error.kind().to_string())),
        };
        done.map_err(|error| SyntaxError { document: Some(reader.document_number()), ..error })?;
    }
    if reader.documents.is_empty() {
        let message = "there is no document; to have none on purpose write []";
        return Err(SyntaxError::new(1, 1, message, None));
    }
    Ok(reader.documents)
}

fn options() -> Options {
    granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    }
}

fn mistake(place: Marker, message: impl Into<String>) -> SyntaxError {
    SyntaxError::new(place.line(), place.col() + 1, message, None)
}

#[derive(Debug, Default)]
struct Reader<'t> {
    documents: Vec<Tree<'t>>,
    /// The collections that are not closed yet, the outermost first.
    open: Vec<Open<'t>>,
    /// What the anchors of this document name.
    anchors: HashMap<usize, Tree<'t>>,
    values_left: usize,
    copied: usize,
}

/// A collection and its anchor, which is 0 when it has none.
#[derive(Debug)]
enum Open<'t> {
    List { anchor: usize, items: Vec<Tree<'t>> },
    Map { anchor: usize, map: MapBuilder<'t>, key: Option<Key<'t>>, merged: Vec<Tree<'t>> },
}

#[derive(Debug)]
enum Key<'t> {
    Name(Cow<'t, str>),
    /// `<<`: the value's own entries go into this map, where it does not have them.
    Merge,
}

impl<'t> Reader<'t> {
    /// The number of the document that is being read. The items of a list are documents.
    fn document_number(&self) -> usize {
        let counts = self.documents.iter().map(|root| root.as_list().map_or(1, <[Tree]>::len));
        1 + counts.sum::<usize>()
    }

    fn event(&mut self, event: Event<'t>, place: Marker) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    let is_merge = text == "<<" && style == ScalarStyle::Plain && tag.is_none();
                    return self.key(if is_merge { Key::Merge } else { Key::Name(text) }, place);
                }
                let value = scalar(text, style, tag.as_deref(), place)?;
                self.value(value, anchor, place)
            }
            Event::Alias(anchor) => {
                // An anchor inside of what it names is not complete.
                let Some(value) = self.anchors.get(&anchor).cloned() else {
                    return Err(mistake(place, "this alias refers to what it is a part of"));
                };
                if self.wants_key()
                    && let Tree::Text(name) = value
                {
                    return self.key(Key::Name(name), place);
                }
                self.copy(&value, place)?;
                self.value(value, 0, place)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", place)?;
                self.start(Open::List { anchor, items: Vec::new() }, place)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", place)?;
                let map = MapBuilder::default();
                self.start(Open::Map { anchor, map, key: None, merged: Vec::new() }, place)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { anchor, items }) => self.value(Tree::List(items), anchor, place),
                Some(Open::Map { anchor, mut map, merged, .. }) => {
                    merged.into_iter().for_each(|value| merge(&mut map, value));
                    self.value(map.finish(), anchor, place)
                }
                None => Ok(()),
            },
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            // Of what is left only these are asked for by the options.
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }

    fn start(&mut self, collection: Open<'t>, place: Marker) -> Result<(), SyntaxError> {
        if self.wants_key() {
            return Err(mistake(place, "the key of a map must be text"));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(mistake(place, format!("more than {MAX_DEPTH} levels of nesting")));
        }
        self.open.push(collection);
        Ok(())
    }

    fn key(&mut self, new: Key<'t>, place: Marker) -> Result<(), SyntaxError> {
        let Some(Open::Map { map, key, merged, .. }) = self.open.last_mut() else { return Ok(()) };
        let duplicate = match &new {
            Key::Name(name) => map.has(name).then_some(&**name),
            Key::Merge => (!merged.is_empty()).then_some("<<"),
        };
        if let Some(name) = duplicate {
            return Err(mistake(place, format!("duplicate key {name:?}")));
        }
        *key = Some(new);
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn value(&mut self, value: Tree<'t>, anchor: usize, place: Marker) -> Result<(), SyntaxError> {
        let Some(left) = self.values_left.checked_sub(1) else {
            return Err(mistake(place, "too many values"));
        };
        self.values_left = left;
        if anchor != 0 {
            self.copy(&value, place)?;
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            Some(Open::List { items, .. }) => items.push(value),
            Some(Open::Map { map, key, merged, .. }) => match key.take() {
                Some(Key::Name(name)) => map.push(name, value),
                Some(Key::Merge) if is_mergeable(&value) => merged.push(value),
                Some(Key::Merge) => {
                    return Err(mistake(place, "<< takes a map, or a list of maps"));
                }
                None => return Err(mistake(place, "the key of a map must be text")),
            },
            None if value == Tree::Null => {}
            None => self.documents.push(value),
        }
        Ok(())
    }

    /// Takes a copy of this value from what may be copied.
    fn copy(&mut self, value: &Tree<'t>, place: Marker) -> Result<(), SyntaxError> {
        self.copied += 1;
        if let Tree::Text(text) = value {
            self.copied += text.len() / 32;
        }
        if self.copied > MAX_COPIED {
            return Err(mistake(place, "anchors and aliases repeat too much"));
        }
        match value {
            Tree::List(items) => items.iter().try_for_each(|item| self.copy(item, place)),
            Tree::Map(entries) => entries.iter().try_for_each(|(key, value)| {
                self.copied += key.len() / 32;
                self.copy(value, place)
            }),
            Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) | Tree::Text(_) => {
                Ok(())
            }
        }
    }
}

fn is_mergeable(value: &Tree<'_>) -> bool {
    match value {
        Tree::Map(_) => true,
        Tree::List(items) => items.iter().all(|item| matches!(item, Tree::Map(_))),
        Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) | Tree::Text(_) => false,
    }
}

/// Adds what the map does not have. Of a list, the earlier map wins.
fn merge<'t>(map: &mut MapBuilder<'t>, value: Tree<'t>) {
    match value {
        Tree::Map(entries) => {
            for (key, value) in entries {
                if !map.has(&key) {
                    map.push(key, value);
                }
            }
        }
        Tree::List(items) => items.into_iter().for_each(|item| merge(map, item)),
        Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) | Tree::Text(_) => {}
    }
}

fn check_tag(tag: Option<&Tag>, expected: &str, place: Marker) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(expected) => Err(unknown_tag(tag, place)),
        Some(_) | None => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, place: Marker) -> SyntaxError {
    mistake(place, format!("the tag {}{} means nothing here", tag.original_handle(), tag.suffix()))
}

fn scalar<'t>(
    text: Cow<'t, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    place: Marker,
) -> Result<Tree<'t>, SyntaxError> {
    match tag.map(|tag| (tag, tag.core_suffix())) {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None | Some((_, Some("str"))) => Ok(Tree::Text(text)),
        Some((_, Some("null" | "bool" | "int" | "float"))) => Ok(plain(text)),
        Some((tag, _)) => Err(unknown_tag(tag, place)),
    }
}

/// A scalar without quotes: YAML 1.2's core schema (section 10.3.2), and the words that are booleans
/// in YAML 1.1 only.
fn plain(text: Cow<'_, str>) -> Tree<'_> {
    match text.as_bytes() {
        [] | b"~" | b"null" | b"Null" | b"NULL" => return Tree::Null,
        [b'0'..=b'9' | b'+' | b'-' | b'.', ..] => {
            return number(&text).unwrap_or(Tree::Text(text));
        }
        // The longest of the words below.
        bytes if bytes.len() > 5 => return Tree::Text(text),
        _ => {}
    }
    let is_any = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_any(["true", "yes", "on", "y"]) {
        Tree::Bool(true)
    } else if is_any(["false", "no", "off", "n"]) {
        Tree::Bool(false)
    } else {
        Tree::Text(text)
    }
}

/// `None` of what is text, as `010` and `1_000` are: they mean different numbers to different
/// readers.
fn number(text: &str) -> Option<Tree<'static>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned.as_bytes() {
        b".inf" | b".Inf" | b".INF" => {
            let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
            return Some(Tree::Float(f64::INFINITY * sign));
        }
        b".nan" | b".NaN" | b".NAN" => return Some(Tree::Float(f64::NAN)),
        [b'0', b'x', digits @ ..] => return in_base(digits, 16),
        [b'0', b'o', digits @ ..] => return in_base(digits, 8),
        [b'0', b'0'..=b'9', ..] => return None,
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => {}
        _ => return None,
    }
    if let Ok(integer) = text.parse() {
        return Some(Tree::Integer(integer));
    }
    let is_part =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    let float = unsigned.bytes().all(is_part).then(|| text.parse().ok())?;
    float.map(Tree::Float)
}

fn in_base(digits: &[u8], base: u32) -> Option<Tree<'static>> {
    let is_sound = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = str::from_utf8(digits).ok().filter(|_| is_sound)?;
    i64::from_str_radix(digits, base).ok().map(Tree::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted() {
        // The list, 1, the map, 2.
        for max in 0..4 {
            let error = read("[1, {a: 2}]", max).unwrap_err();
            assert_eq!(error.message, "too many values");
        }
        let max = 4;
        assert!(read("[1, {a: 2}]", max).is_ok());
    }
}
