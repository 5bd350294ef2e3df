//! What is told to whoever wrote a document.

use std::fmt;

use serde::Serialize;

/// Why texts did not become a [`PolicySet`](crate::PolicySet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Texts that are not well-formed, each with its first mistake. No document was judged.
    #[error("{}", lines(.0))]
    Syntax(Vec<SyntaxError>),
    /// Everything that is wrong with the documents.
    #[error("{}", lines(.0))]
    Invalid(Vec<PolicyError>),
}

/// Where a text stops being well-formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}line {line}, column {column}: {message}", told(file))]
pub struct SyntaxError {
    /// [`Source::file`](crate::Source::file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Counted from 1, as is the column.
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// The document it is in, counted from 1, where that is known.
    pub document: Option<usize>,
}

impl SyntaxError {
    pub(crate) fn new(
        line: usize,
        column: usize,
        message: impl Into<String>,
        document: Option<usize>,
    ) -> SyntaxError {
        SyntaxError {
            file: None,
            line: line.max(1),
            column: column.max(1),
            message: message.into(),
            document,
        }
    }
}

/// One mistake: where it is, what it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema, thiserror::Error)]
#[error("{}{document}: {}{reason}{}", told(file), colon(path), parenthesis(hint))]
pub struct PolicyError {
    /// [`Source::file`](crate::Source::file) of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `EgressPolicy/payments`, or `document 3` when it has no readable kind and name.
    pub document: String,
    /// `.spec.egress[0].egressIPs[1]`; empty when the document as a whole is meant.
    pub path: String,
    pub reason: String,
    /// What to write instead; empty when the reason says it all.
    pub hint: String,
}

/// Something that is valid, and perhaps not what was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Warning {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub document: String,
    pub path: String,
    pub reason: String,
    pub hint: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { file, document, path, reason, hint } = self;
        write!(f, "{}{document}: {}{reason}{}", told(file), colon(path), parenthesis(hint))
    }
}

/// The most errors that are told of one load. A text of 64 MiB could hold millions, and the answer
/// should not be many times larger than the question.
const MAX_ERRORS: usize = 1000;

/// Collects the errors of one load.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    kept: Vec<PolicyError>,
    left_out: usize,
}

impl Errors {
    pub(crate) fn push(&mut self, error: PolicyError) {
        if self.kept.len() < MAX_ERRORS {
            self.kept.push(error);
        } else {
            self.left_out += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn into_result(self) -> Result<(), LoadError> {
        let Errors { mut kept, left_out } = self;
        if left_out > 0 {
            kept.push(PolicyError {
                file: None,
                document: "all documents".to_owned(),
                path: String::new(),
                reason: format!("{left_out} more errors are not listed"),
                hint: "correct these first".to_owned(),
            });
        }
        if kept.is_empty() { Ok(()) } else { Err(LoadError::Invalid(kept)) }
    }
}

fn lines<E: ToString>(errors: &[E]) -> String {
    errors.iter().map(E::to_string).collect::<Vec<_>>().join("\n")
}

fn told(file: &Option<String>) -> String {
    file.as_ref().map(|file| format!("{file}: ")).unwrap_or_default()
}

fn colon(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

fn parenthesis(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" ({hint})") }
}
