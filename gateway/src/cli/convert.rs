//! `policy convert`: what files say, in this gateway's own documents. It asks no gateway.

use super::{
    Failure, Result, note,
    policy::{DocumentForm, read},
    print,
    run::{mistakes, refused},
};
use clap::Args;
use policy::{LoadError, PolicySet, Source, Warning, parse_sources};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// Policy documents, ours or Cilium's (.json: JSON, else YAML), - is standard input; several
    /// files are one set
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: DocumentForm,
}

pub(super) fn run(args: &ConvertArgs) -> Result<()> {
    let (set, warnings) = load(&args.files)?;
    for warning in warnings {
        note(&format!("warning: {warning}"));
    }
    match args.output {
        DocumentForm::Yaml => print(&set.to_yaml()),
        DocumentForm::Json => {
            let documents = serde_json::to_value(&set)
                .map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))?;
            print(&format!("{documents:#}\n"))
        }
    }
}

fn load(files: &[PathBuf]) -> Result<(PolicySet, Vec<Warning>)> {
    let texts = files.iter().map(|file| {
        let (text, format) = read(file)?;
        Ok((file.display().to_string(), text, format))
    });
    let texts = texts.collect::<Result<Vec<_>>>()?;
    let sources =
        texts.iter().map(|(file, text, format)| Source { file: Some(file), text, format: *format });
    parse_sources(&sources.collect::<Vec<_>>()).map_err(|error| told(files, error))
}

/// The heading names one file, and of several each line its own.
fn told(files: &[PathBuf], error: LoadError) -> Failure {
    match (files, error) {
        ([file], LoadError::Invalid(mut errors)) => {
            errors.iter_mut().for_each(|error| error.file = None);
            refused(file, &LoadError::Invalid(errors))
        }
        (_, LoadError::Invalid(errors)) => {
            let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            let lines = errors.iter().map(ToString::to_string);
            let heading = format!("the set of {}", names.join(", "));
            Failure::BadInput(mistakes(Path::new(&heading), lines))
        }
        (_, error @ LoadError::Syntax(_)) => Failure::BadInput(error.to_string()),
    }
}
