//! Columns of text.

pub(crate) use admin::table::*;
