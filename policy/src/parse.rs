//! Texts to a valid set.

use std::slice;

use crate::decode::Decoder;
use crate::document::PolicySet;
use crate::error::{Errors, LoadError, SyntaxError, Warning};
use crate::tree::{MAX_VALUES, Tree};
use crate::validate::Claims;
use crate::warnings::warnings;
use crate::{json, yaml};

/// A larger text is refused unread, and so are texts that are larger together. 64 MiB hold some
/// 30,000 policies with 100 CIDRs each.
pub const MAX_BYTES: usize = 64 << 20;

/// How documents are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Any number of documents, separated by `---`.
    Yaml,
    /// One document, or a list of them.
    Json,
}

/// One text of a set.
#[derive(Debug, Clone, Copy)]
pub struct Source<'t> {
    /// What errors and warnings call it. `None` where the reader knows: a request has one body.
    pub file: Option<&'t str>,
    pub text: &'t str,
    pub format: Format,
}

/// As [`parse_sources`], of one text without a name.
pub fn parse(text: &str, format: Format) -> Result<(PolicySet, Vec<Warning>), LoadError> {
    parse_sources(&[Source { file: None, text, format }])
}

/// Reads, validates and judges one set of documents, in the order of the texts: documents in one may
/// name those in another. A syntax error ends its text, as what follows cannot be told apart; all
/// other errors are found at once.
///
/// A text without any document is refused, as an empty file is more often a mishap than a wish:
/// to have no policies write the empty list `[]`.
pub fn parse_sources(sources: &[Source<'_>]) -> Result<(PolicySet, Vec<Warning>), LoadError> {
    Draft::read(sources)?.finish()
}

/// What was read of a set, valid or not.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Documents with errors are left out.
    pub(crate) set: PolicySet,
    pub(crate) claims: Claims,
    pub(crate) errors: Errors,
}

impl Draft {
    pub(crate) fn read(sources: &[Source<'_>]) -> Result<Draft, LoadError> {
        let texts = trees(sources)?;
        let mut decoder = Decoder::default();
        let documents = || texts.iter().flat_map(|(file, roots)| numbered(*file, roots));
        documents().for_each(|(.., document)| decoder.announce(document));
        documents().for_each(|(file, number, document)| decoder.decode(file, number, document));
        let Decoder { set, claims, mut errors, .. } = decoder;
        claims.check(&mut errors);
        Ok(Draft { set, claims, errors })
    }

    /// The set with its warnings, if there is no error.
    pub(crate) fn finish(self) -> Result<(PolicySet, Vec<Warning>), LoadError> {
        let Draft { set, claims, errors } = self;
        errors.into_result()?;
        let warnings = warnings(&set).into_iter().map(|warning| claims.locate(warning)).collect();
        Ok((set, warnings))
    }
}

/// The trees of one text, with the name of its file.
type FileTrees<'t> = (Option<&'t str>, Vec<Tree<'t>>);

fn trees<'t>(sources: &[Source<'t>]) -> Result<Vec<FileTrees<'t>>, LoadError> {
    let mut bytes = 0;
    let (mut texts, mut errors) = (Vec::new(), Vec::new());
    for source in sources {
        bytes += source.text.len();
        let roots = if bytes > MAX_BYTES {
            let message = format!("the text has {bytes} bytes, more than {MAX_BYTES}");
            Err(SyntaxError::new(1, 1, message, None))
        } else {
            match source.format {
                Format::Yaml => yaml::read(source.text, MAX_VALUES),
                Format::Json => json::read(source.text, MAX_VALUES).map(|root| vec![root]),
            }
        };
        match roots {
            Ok(roots) => texts.push((source.file, roots)),
            Err(error) => {
                errors.push(SyntaxError { file: source.file.map(str::to_owned), ..error });
            }
        }
    }
    if !errors.is_empty() {
        return Err(LoadError::Syntax(errors));
    }
    Ok(texts)
}

/// The documents of one text, counted from 1.
fn numbered<'t>(
    file: Option<&'t str>,
    roots: &'t [Tree<'t>],
) -> impl Iterator<Item = (Option<&'t str>, usize, &'t Tree<'t>)> {
    let documents = roots.iter().flat_map(|root| root.as_list().unwrap_or(slice::from_ref(root)));
    documents.enumerate().map(move |(index, document)| (file, index + 1, document))
}
