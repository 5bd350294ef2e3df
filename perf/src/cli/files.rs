//! What works with files of results: reading and writing them, `report`, `schema`.

use super::{Failure, Result, example, json, note, print, summary};
use crate::{report, result::Results};
use clap::Args;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

const REPORT: &str = example!(
    "  egress-perf report perf/results/quick.json
  egress-perf report new.json --html new.html --earlier old.json"
);

#[derive(Debug, Args)]
#[command(after_help = REPORT)]
pub(super) struct ReportArgs {
    /// What `egress-perf run --json` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write one HTML file that needs no network, instead of printing tables
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// An earlier file, which the HTML file shows beside it
    #[arg(long, value_name = "FILE", requires = "html")]
    earlier: Option<PathBuf>,
}

pub(super) fn report(args: &ReportArgs) -> Result<()> {
    let results = read(&args.file)?;
    let earlier = args.earlier.as_deref().map(read).transpose()?;
    match &args.html {
        None => print(&summary::text(&results)),
        Some(out) => {
            write(out, report::html(&results, earlier.as_ref()).as_bytes())?;
            note(&format!("{} is written", out.display()));
            Ok(())
        }
    }
}

pub(super) fn schema() -> Result<()> {
    print(&json(&schemars::schema_for!(Results))?)
}

/// Results as a run wrote them.
pub(super) fn read(path: &Path) -> Result<Results> {
    let wrong =
        |error: &dyn std::fmt::Display| Failure::BadInput(format!("{}: {error}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| {
        wrong(&format!("these are no results of `egress-perf run --json`: {error}"))
    })
}

/// The whole file or none of it, so that a run that is ended leaves no half.
pub(super) fn write(path: &Path, text: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let written = fs::create_dir_all(folder).and_then(|()| {
        let mut file = tempfile::Builder::new().prefix(".egress-perf").tempfile_in(folder)?;
        file.write_all(text)?;
        file.as_file().sync_all()?;
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)
    });
    match written {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Failed(format!("{}: {error}", path.display()))),
    }
}
