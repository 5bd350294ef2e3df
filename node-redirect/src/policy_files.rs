//! The policy documents' files, read as one set.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use policy::{Format, LoadError, PolicySet};
use tracing::warn;

/// All files together, since documents in one may name those in another.
pub fn read(files: &[PathBuf]) -> Result<PolicySet> {
    let mut sources = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the policy file {}", file.display()))?;
        sources.push((file.as_path(), text));
    }
    let (set, warnings) = parse(&sources)?;
    for warning in warnings {
        warn!("{}{}: {}", warning.document, warning.path, warning.reason);
    }
    Ok(set)
}

fn parse(sources: &[(&Path, String)]) -> Result<(PolicySet, Vec<policy::Warning>)> {
    if let [(file, text)] = sources {
        let is_json = file.extension().is_some_and(|extension| extension == "json");
        let format = if is_json { Format::Json } else { Format::Yaml };
        return policy::parse(text, format).map_err(|error| located(error, sources));
    }
    // JSON is YAML, too, so files of both kinds make one stream of documents.
    let joined: String = sources.iter().map(|(_, text)| format!("{SEPARATOR}{text}\n")).collect();
    policy::parse(&joined, Format::Yaml).map_err(|error| located(error, sources))
}

const SEPARATOR: &str = "---\n";

/// A line of the joined text is said as the file's own.
fn located(error: LoadError, sources: &[(&Path, String)]) -> anyhow::Error {
    let LoadError::Syntax { line, column, message, .. } = &error else {
        let names: Vec<_> = sources.iter().map(|(file, _)| file.display().to_string()).collect();
        return anyhow::anyhow!("{}:\n{error}", names.join(", "));
    };
    if let [(file, _)] = sources {
        return anyhow::anyhow!("{}:{line}:{column}: {message}", file.display());
    }
    let mut first = 1;
    for (file, text) in sources {
        let lines = 1 + format!("{text}\n").lines().count();
        if *line < first + lines {
            let own = line.saturating_sub(first).max(1);
            return anyhow::anyhow!("{}:{own}:{column}: {message}", file.display());
        }
        first += lines;
    }
    anyhow::anyhow!("{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_several_files_know_each_other() {
        let gateway = "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressGateway\nmetadata: {name: gw-a}\nspec: {tunnelAddress: 192.0.2.10}\n";
        let policy = "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressPolicy\nmetadata: {name: p}\nspec:\n  selectors: [{podSelector: {}}]\n  destinationCIDRs: [0.0.0.0/0]\n  egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]\n";
        let sources =
            [(Path::new("a.yaml"), policy.to_owned()), (Path::new("b.yaml"), gateway.to_owned())];
        let (set, _) = parse(&sources).unwrap();
        assert_eq!((set.policies.len(), set.gateways.len()), (1, 1));
    }

    #[test]
    fn a_syntax_error_names_the_file_and_its_own_line() {
        let good = "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressGateway\nmetadata: {name: gw-a}\nspec: {tunnelAddress: 192.0.2.10}\n";
        let sources =
            [(Path::new("a.yaml"), good.to_owned()), (Path::new("b.yaml"), "kind: [\n".to_owned())];
        let error = parse(&sources).unwrap_err().to_string();
        assert!(error.starts_with("b.yaml:"), "{error}");
    }
}
