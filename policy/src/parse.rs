//! Text to a valid set.

use serde_saphyr::options::DuplicateKeyPolicy;

use crate::decode::Decoder;
use crate::document::PolicySet;
use crate::error::{LoadError, Warning};
use crate::tree::Tree;
use crate::warnings::warnings;

/// A larger text is refused unread. 16 MiB hold some 50,000 endpoints.
pub const MAX_BYTES: usize = 16 << 20;

/// How documents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Any number of documents, separated by `---`.
    Yaml,
    /// One document, or a list of them.
    Json,
}

/// Reads, validates and judges a set of documents. Syntax errors end it at the first, as what
/// follows cannot be told apart; all others are found at once.
///
/// A text without any document is refused, as an empty file is more often a mishap than a wish:
/// to have no policies write the empty list `[]`.
pub fn parse(text: &str, format: Format) -> Result<(PolicySet, Vec<Warning>), LoadError> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes, more than {MAX_BYTES}", text.len());
        return Err(syntax(1, 1, message, None));
    }
    let roots = match format {
        Format::Yaml => yaml(text)?,
        Format::Json => vec![json(text)?],
    };
    let documents = roots.iter().flat_map(|root| match root {
        Tree::List(documents) => documents.as_slice(),
        single => std::slice::from_ref(single),
    });

    let mut decoder = Decoder::default();
    for (index, document) in documents.enumerate() {
        decoder.decode(document, index + 1);
    }
    let Decoder { set, claims, mut errors } = decoder;
    claims.check(&mut errors);
    if !errors.is_empty() {
        return Err(LoadError::Invalid(errors));
    }
    let warnings = warnings(&set);
    Ok((set, warnings))
}

fn syntax(line: u64, column: u64, message: String, document: Option<usize>) -> LoadError {
    let narrow = |number| usize::try_from(number).unwrap_or(usize::MAX);
    LoadError::Syntax { line: narrow(line), column: narrow(column), message, document }
}

fn json(text: &str) -> Result<Tree, LoadError> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        // serde_json appends the place, which is told apart from the message here.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(text, _)| text);
        syntax(error.line() as u64, error.column() as u64, message.to_owned(), None)
    })
}

fn yaml(text: &str) -> Result<Vec<Tree>, LoadError> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let (line, column) =
            error.location().map_or((1, 1), |place| (place.line(), place.column()));
        syntax(line, column, error.render(), None)
    })
}
