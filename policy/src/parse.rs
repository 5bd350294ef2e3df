//! Text to a valid set.

use std::slice;

use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use crate::decode::Decoder;
use crate::document::PolicySet;
use crate::error::{LoadError, Warning};
use crate::tree::Tree;
use crate::warnings::warnings;

/// A larger text is refused unread. 16 MiB hold some 50,000 endpoints.
pub const MAX_BYTES: usize = 64 << 20;

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
    let documents = roots.iter().flat_map(|root| root.as_list().unwrap_or(slice::from_ref(root)));

    let mut decoder = Decoder::default();
    for (index, document) in documents.enumerate() {
        decoder.decode(document, index + 1);
    }
    let Decoder { set, claims, mut errors } = decoder;
    claims.check(&mut errors);
    errors.into_result()?;
    let warnings = warnings(&set);
    Ok((set, warnings))
}

fn yaml(text: &str) -> Result<Vec<Tree>, LoadError> {
    let roots: Vec<Tree> = serde_saphyr::from_multiple_with_options(text, yaml_options())
        .map_err(|error| yaml_error(text, &error))?;
    if roots.is_empty() {
        let message = "there is no document; to have none on purpose write []";
        return Err(syntax(1, 1, message.to_owned(), None));
    }
    Ok(roots)
}

/// The limits hold for the whole text. What is written is bounded by its size, so they are set to
/// what that many bytes can honestly say; what aliases make of it is bounded much lower.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 8_000_000,
            max_nodes: 4_000_000,
            max_documents: 500_000,
            max_total_scalar_bytes: 2 * MAX_BYTES,
            max_depth: 64,
            max_aliases: 10_000,
            max_recorded_anchor_events: 200_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // `010` and `1_000` mean different numbers to different readers.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        emit_comments: false,
        with_snippet: false,
    }
}

fn yaml_error(text: &str, error: &serde_saphyr::Error) -> LoadError {
    let (line, column) = error.location().map_or((1, 1), |place| (place.line(), place.column()));
    // The formatter alone leaves out the place, which has its own fields.
    let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
    syntax(line, column, message, document_at(text, line))
}

/// The number of the document that a line is in: one more than there are before its `---`. They
/// are whole, or the error would be there.
fn document_at(text: &str, line: u64) -> Option<usize> {
    let (mut before, mut offset) = (0, 0);
    for (current, content) in (1..=line).zip(text.split_inclusive('\n')) {
        if content.starts_with("---") {
            before = offset;
        }
        offset += content.len();
        if current == line {
            break;
        }
    }
    let documents = serde_saphyr::from_multiple_with_options(&text[..before], yaml_options());
    documents.ok().map(|documents: Vec<Tree>| documents.len() + 1)
}

fn json(text: &str) -> Result<Tree, LoadError> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(&*message, |(text, _)| text);
        syntax(error.line() as u64, error.column() as u64, message.to_owned(), None)
    })
}

fn syntax(line: u64, column: u64, message: String, document: Option<usize>) -> LoadError {
    let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    LoadError::Syntax { line: narrow(line), column: narrow(column), message, document }
}
