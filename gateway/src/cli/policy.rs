//! `policy get|apply|diff|history|convert`

use super::{
    Failure, Output, Result,
    client::{Answer, ApiArgs},
    convert,
    diff::{self, DiffArgs},
    example, history, note, print,
    run::{format_of, read_file},
};
use clap::{Args, Subcommand, ValueEnum};
use hyper::{Method, body::Bytes, header};
use policy::{Format, MAX_BYTES};
use serde::Deserialize;
use serde_json::Value;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

const POLICIES: &str = "/v1/policies";

const EXAMPLES: &str = example!(
    "  egress-gateway policy get > policies.yaml
  egress-gateway policy diff -f policies.yaml
  egress-gateway policy apply -f policies.yaml --dry-run
  egress-gateway policy apply -f policies.yaml --if-match 7
  egress-gateway policy history
  egress-gateway policy get --generation 6 | egress-gateway policy apply -f -"
);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Print the documents in force, or those of an older generation
    Get {
        /// Not those in force, but those of this generation; the gateway keeps the last 20
        #[arg(long, value_name = "GENERATION")]
        generation: Option<u64>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: DocumentForm,
    },
    /// Replace all documents by those of a file; ends when every worker runs them
    Apply {
        #[command(flatten)]
        file: FileArgs,
        /// Say what would change, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Only while the policies are at this generation
        #[arg(long, value_name = "GENERATION")]
        if_match: Option<u64>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// What `apply` would change, field by field, and how many sessions it would cut
    Diff(DiffArgs),
    /// The sets that the gateway keeps, the newest first
    History {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the documents of files, Cilium's policies as ours; needs no gateway
    Convert(convert::ConvertArgs),
}

#[derive(Debug, Args)]
struct FileArgs {
    /// Policy documents (.json: JSON, else YAML); - reads YAML or JSON from standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
}

/// How documents are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum DocumentForm {
    #[default]
    Yaml,
    Json,
}

/// The answer to a PUT.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Applied {
    pub(super) generation: u64,
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    pub(super) sessions_kept: u64,
    pub(super) sessions_cut: u64,
    warnings: Vec<Warning>,
}

#[derive(Debug, Deserialize)]
struct Warning {
    document: String,
    path: String,
    reason: String,
    hint: String,
}

/// Returns the exit status: a difference may be asked for as one.
pub(super) fn run(args: &PolicyArgs) -> Result<ExitCode> {
    let api = &args.api;
    match &args.command {
        PolicyCommand::Get { generation, output } => get(api, *generation, *output),
        PolicyCommand::Apply { file, dry_run, if_match, output } => {
            apply(api, &file.file, *dry_run, *if_match, *output)
        }
        PolicyCommand::Diff(args) => return diff::run(api, args),
        PolicyCommand::History { output } => history::run(api, *output),
        PolicyCommand::Convert(args) => convert::run(args),
    }
    .map(|()| ExitCode::SUCCESS)
}

fn get(api: &ApiArgs, generation: Option<u64>, form: DocumentForm) -> Result<()> {
    match form {
        DocumentForm::Yaml => print(&documents(api, generation, "application/yaml")?.text()),
        DocumentForm::Json => {
            let documents = documents(api, generation, "application/json")?;
            print(&format!("{:#}\n", documents.json::<Value>()?))
        }
    }
}

/// Those in force, or of a generation.
pub(super) fn documents(api: &ApiArgs, generation: Option<u64>, accept: &str) -> Result<Answer> {
    let accept = [(header::ACCEPT, accept)];
    let path = match generation {
        None => POLICIES.to_owned(),
        Some(generation) => format!("{POLICIES}?generation={generation}"),
    };
    api.api.send(Method::GET, &path, &accept, Bytes::new())?.succeeded()
}

fn apply(
    api: &ApiArgs,
    file: &Path,
    dry_run: bool,
    if_match: Option<u64>,
    output: Output,
) -> Result<()> {
    let (text, format) = read(file)?;
    let answer = put(api, file, text, format, dry_run, if_match)?;
    if output == Output::Json {
        return print(&answer.text());
    }
    let applied: Applied = answer.json()?;
    warn(&applied);
    let heading = match dry_run {
        true => format!("dry run: generation {} stays in force", applied.generation),
        false => format!("generation {} is in force", applied.generation),
    };
    let mut text = format!("{heading}; {}\n", counts(&applied));
    for (mark, names) in [("+", &applied.added), ("~", &applied.changed), ("-", &applied.removed)] {
        text.extend(names.iter().map(|name| format!("{mark} {name}\n")));
    }
    print(&text)
}

pub(super) fn put(
    api: &ApiArgs,
    file: &Path,
    text: String,
    format: Format,
    dry_run: bool,
    if_match: Option<u64>,
) -> Result<Answer> {
    let content_type = match format {
        Format::Yaml => "application/yaml",
        Format::Json => "application/json",
    };
    let tag = if_match.map(|generation| format!("\"{generation}\""));
    let mut headers = vec![(header::CONTENT_TYPE, content_type)];
    headers.extend(tag.as_deref().map(|tag| (header::IF_MATCH, tag)));
    let path = if dry_run { "/v1/policies?dryRun=true" } else { POLICIES };
    api.api.send(Method::PUT, path, &headers, text)?.accepted(file)
}

/// The text of the file, small enough to be sent.
pub(super) fn read(file: &Path) -> Result<(String, Format)> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        // One byte more than allowed is enough to know.
        let read = io::stdin().lock().take(MAX_BYTES as u64 + 1).read_to_string(&mut text);
        read.map_err(|error| Failure::BadInput(format!("standard input: {error}")))?;
        text
    } else {
        read_file(file)?
    };
    if text.len() > MAX_BYTES {
        let message = format!("{} has more than {MAX_BYTES} bytes", file.display());
        return Err(Failure::BadInput(message));
    }
    Ok((text, format_of(file)))
}

fn counts(applied: &Applied) -> String {
    let Applied { added, changed, removed, sessions_kept, sessions_cut, .. } = applied;
    format!(
        "policies: {} added, {} changed, {} removed; sessions: {sessions_kept} kept, \
         {sessions_cut} cut",
        added.len(),
        changed.len(),
        removed.len(),
    )
}

pub(super) fn warn(applied: &Applied) {
    for Warning { document, path, reason, hint } in &applied.warnings {
        let warning = policy::Warning {
            file: None,
            document: document.clone(),
            path: path.clone(),
            reason: reason.clone(),
            hint: hint.clone(),
        };
        note(&format!("warning: {warning}"));
    }
}
