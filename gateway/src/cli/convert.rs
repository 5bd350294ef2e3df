//! `policy convert`: what files say, in this gateway's own documents. It asks no gateway.

use super::{Failure, Result, files::Files, note, policy::DocumentForm, print};
use clap::Args;
use policy::parse_sources;
use std::path::PathBuf;

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
    let files = Files::read(&args.files)?;
    let (set, warnings) = parse_sources(&files.sources()).map_err(|error| files.refused(error))?;
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
