//! Columns of text, and numbers as people read them.

pub(super) use admin::{number::*, table::*};
