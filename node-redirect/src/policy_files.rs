//! The policy documents' files, read as one set.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use policy::{Format, PolicySet, Source};
use tracing::warn;

/// All files together, since documents in one may name those in another.
pub fn read(files: &[PathBuf]) -> Result<PolicySet> {
    let mut texts = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the policy file {}", file.display()))?;
        texts.push((file.display().to_string(), format(file), text));
    }
    let sources: Vec<_> = texts
        .iter()
        .map(|(name, format, text)| Source { file: Some(name), format: *format, text })
        .collect();
    // Each error has a line and names its file.
    let (set, warnings) = policy::parse_sources(&sources)?;
    for warning in warnings {
        warn!("{warning}");
    }
    Ok(set)
}

fn format(file: &Path) -> Format {
    match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Format::Json,
        _ => Format::Yaml,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) -> Vec<PathBuf> {
        let write = |(name, text): &(&str, &str)| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        files.iter().map(write).collect()
    }

    const GATEWAY: &str = "apiVersion: egress-gateway.io/v1alpha1\nkind: EgressGateway\nmetadata: {name: gw-a}\nspec: {tunnelAddress: 192.0.2.10}\n";
    const POLICY: &str = r#"{"apiVersion": "egress-gateway.io/v1alpha1", "kind": "EgressPolicy",
        "metadata": {"name": "p"}, "spec": {"selectors": [{"podSelector": {}}],
        "destinationCIDRs": ["0.0.0.0/0"],
        "egress": [{"gateway": "gw-a", "egressIPs": ["203.0.113.16"]}]}}"#;

    #[test]
    fn documents_of_several_files_know_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let files = write(folder.path(), &[("a.JSON", POLICY), ("b.yaml", GATEWAY)]);
        let set = read(&files).unwrap();
        assert_eq!((set.policies.len(), set.gateways.len()), (1, 1));
    }

    #[test]
    fn every_mistake_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let bad = "kind: EgressGateway\n";
        let files = write(folder.path(), &[("a.json", POLICY), ("b.yaml", bad), ("c.yaml", bad)]);
        let message = read(&files).unwrap_err().to_string();
        for (file, document) in files.iter().zip(["EgressPolicy/p", "document 1", "document 1"]) {
            let place = format!("{}: {document}: ", file.display());
            assert!(message.lines().any(|line| line.starts_with(&place)), "{place}: {message}");
        }

        let syntax = [("a.yaml", "kind: [\n"), ("b.yaml", GATEWAY), ("c.json", "{\n,}")];
        let files = write(folder.path(), &syntax);
        let message = read(&files).unwrap_err().to_string();
        let places: Vec<&str> =
            message.lines().map(|line| line.split_once(", column ").unwrap().0).collect();
        let expected =
            [format!("{}: line 1", files[0].display()), format!("{}: line 2", files[2].display())];
        assert_eq!(places, expected);
    }
}
