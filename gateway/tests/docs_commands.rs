//! What the documents show of the command line is what it does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use running::{
    Running,
    program::{Files, program, run},
};
use std::{fs, path::Path};

fn document(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join(path)).unwrap()
}

/// What stands between a pair of fences.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").skip(1).step_by(2)
}

/// Whatever is typed there is understood: an option that was renamed would be found here.
#[test]
fn every_command_of_the_documents_is_understood() {
    let mut commands = 0;
    for file in
        ["README.md", "docs/policies.md", "docs/cilium.md", "docs/security.md", "docs/drops.md"]
    {
        let text = document(file);
        for line in blocks(&text).flat_map(str::lines) {
            let line = line.split('#').next().unwrap();
            for command in line.split('|') {
                let words = command
                    .trim()
                    .split_once("egress-gateway ")
                    .map(|(before, rest)| (before, rest.split_whitespace().collect::<Vec<_>>()));
                let Some((before, words)) = words else { continue };
                // In the demo's output the prompt of a host stands before it.
                if !before.is_empty() && !before.ends_with("$ ") || words[0] == "run" {
                    continue;
                }
                let is_local = words[0] == "check" || words.get(1) == Some(&"convert");
                let api = ["--api", "unix:/nobody/is/here"];
                let done = run(&[&words[..], if is_local { &[] } else { &api }].concat());
                assert!(!done.err.contains("Usage:"), "{file}: {line}: {done:?}");
                commands += 1;
            }
        }
    }
    assert!(commands > 15, "{commands}");
}

/// `docs/policies.md` shows a difference and a refusal: both are what is printed.
#[test]
fn the_output_in_the_documents_is_what_is_printed() {
    let text = document("docs/policies.md");
    let shown = |begins: &str| {
        let block = blocks(&text).map(str::trim_start).find(|block| block.starts_with(begins));
        block.unwrap_or_else(|| panic!("no block begins with {begins}")).to_owned()
    };
    let running = Running::dual();
    let example = document("configs/policy.yaml");
    assert_eq!(running.put(&example).status, 200);

    let files = Files::new();
    let backup = "---
apiVersion: egress-gateway.io/v1alpha1
kind: EgressPolicy
metadata: {name: backup}
spec:
  selectors: [{podSelector: {matchLabels: {app: backup}}}]
  destinationCIDRs: [198.51.100.64/26]
  egress: [{gateway: gw-a, egressIPs: [203.0.113.21]}]
";
    let changed = example
        .replace("priority: 0", "priority: 10")
        .replace(", 203.0.113.17,", ", 203.0.113.19,");
    let file = files.write("policy.yaml", &(changed + backup));
    let diff = run(&["policy", "diff", "-f", &file, "--api", &running.address.url()]).ok();
    assert_eq!(diff, shown("+ EgressPolicy/backup"));

    let wrong =
        example.replace("failureMode", "failureMod").replace("[10.0.0.0/8,", "[10.1.2.3/8,");
    files.write("policy.yaml", &wrong);
    let mut apply =
        program(&["policy", "apply", "-f", "policy.yaml", "--api", &running.address.url()]);
    let output = apply.current_dir(files.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), shown("error: policy.yaml has"));
}
