//! Where in a document something is. A path is a chain of borrowed steps, so that walking a million
//! values costs nothing, and becomes text where something is told of its end.

use std::fmt;

/// A place in a document. Its text is empty for the whole document, and else
/// `.metadata.labels.app`, `.spec.ips[0]`, and `.metadata.labels["example.com/app"]` where a dot
/// would mislead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'v> {
    Root,
    Key(&'v Path<'v>, &'v str),
    Index(&'v Path<'v>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        match self {
            Path::Root => Ok(()),
            Path::Key(outer, key) if !key.is_empty() && key.bytes().all(is_plain) => {
                write!(f, "{outer}.{key}")
            }
            Path::Key(outer, key) => write!(f, "{outer}[{key:?}]"),
            Path::Index(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}
