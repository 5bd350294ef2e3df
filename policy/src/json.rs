//! JSON: one document, or a list of them.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::error::SyntaxError;
use crate::tree::{MapBuilder, Tree};

pub(crate) fn read(text: &str, max_values: usize) -> Result<Tree<'_>, SyntaxError> {
    let values_left = Cell::new(max_values);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Value(&values_left).deserialize(&mut deserializer);
    read.and_then(|tree| deserializer.end().map(|()| tree)).map_err(|error| {
        let message = error.to_string();
        // The place has its own fields.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(text, _)| text);
        SyntaxError::new(error.line(), error.column(), message, None)
    })
}

/// Reads one value, and takes it from those that may be read.
#[derive(Clone, Copy)]
struct Value<'c>(&'c Cell<usize>);

impl<'t> DeserializeSeed<'t> for Value<'_> {
    type Value = Tree<'t>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Tree<'t>, D::Error> {
        let Some(left) = self.0.get().checked_sub(1) else {
            return Err(D::Error::custom("too many values"));
        };
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Value<'_> {
    type Value = Tree<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree<'t>, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'t>, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree<'t>, E> {
        Ok(Tree::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree<'t>, E> {
        // No field goes that far; as a float it is shown and refused.
        Ok(i64::try_from(value).map_or(Tree::Float(value as f64), Tree::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree<'t>, E> {
        Ok(Tree::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'t str) -> Result<Tree<'t>, E> {
        Ok(Tree::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree<'t>, E> {
        Ok(Tree::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Tree<'t>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Tree::List(values))
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Tree<'t>, A::Error> {
        let mut values = MapBuilder::default();
        // The only keys that JSON has are texts.
        while let Some(Tree::Text(key)) = map.next_key_seed(self)? {
            if values.has(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            values.push(key, map.next_value_seed(self)?);
        }
        Ok(values.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted() {
        // The list, 1, the map, 2, and the key.
        for max in 0..5 {
            let error = read("[1, {\"a\": 2}]", max).unwrap_err();
            assert_eq!(error.message, "too many values");
        }
        let max = 5;
        assert!(read("[1, {\"a\": 2}]", max).is_ok());
    }
}
