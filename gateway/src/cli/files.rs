//! Policy files that together are one set: their text, and how their mistakes are told.

use super::{
    Failure, Result,
    policy::read,
    run::{mistakes, refused},
};
use policy::{Format, LoadError, Source};
use std::path::{Path, PathBuf};

/// Files with their text.
#[derive(Debug)]
pub(super) struct Files<'p> {
    paths: &'p [PathBuf],
    texts: Vec<(String, String, Format)>,
}

impl<'p> Files<'p> {
    pub(super) fn read(paths: &'p [PathBuf]) -> Result<Self> {
        let texts = paths.iter().map(|path| {
            let (text, format) = read(path)?;
            Ok((path.display().to_string(), text, format))
        });
        Ok(Files { paths, texts: texts.collect::<Result<_>>()? })
    }

    pub(super) fn sources(&self) -> Vec<Source<'_>> {
        let texts = self.texts.iter();
        texts
            .map(|(file, text, format)| Source { file: Some(file), text, format: *format })
            .collect()
    }

    /// `a.yaml, b.yaml`
    pub(super) fn names(&self) -> String {
        self.texts.iter().map(|(file, ..)| file.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The heading names one file, and of several each line its own.
    pub(super) fn refused(&self, error: LoadError) -> Failure {
        match (self.paths, error) {
            ([file], LoadError::Invalid(mut errors)) => {
                errors.iter_mut().for_each(|error| error.file = None);
                refused(file, &LoadError::Invalid(errors))
            }
            (_, LoadError::Invalid(errors)) => {
                let lines = errors.iter().map(ToString::to_string);
                let heading = format!("the set of {}", self.names());
                Failure::BadInput(mistakes(Path::new(&heading), lines))
            }
            (_, error @ LoadError::Syntax(_)) => Failure::BadInput(error.to_string()),
        }
    }
}
