//! `policy convert`: documents in, the whole set in our words out, without a gateway.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod harness;
mod running;

use policy::Format;
use running::{
    documents,
    program::{Done, Files, run, run_with},
};
use std::{fs, path::Path};

/// The blocks of `docs/cilium.md`: what is given, the gateways, what is printed.
fn example() -> [String; 3] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("docs/cilium.md")).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap().to_owned());
    blocks.collect::<Vec<_>>().try_into().unwrap()
}

fn convert(files: &[&str], more: &[&str]) -> Done {
    let files = files.iter().flat_map(|file| ["-f", file]);
    let arguments: Vec<&str> = ["policy", "convert"].into_iter().chain(files).collect();
    run(&[&arguments, more].concat())
}

#[test]
fn the_example_of_the_document_is_printed() {
    let [cilium, gateways, printed] = example();
    let files = Files::new();
    let cilium_file = files.write("cilium.yaml", &cilium);
    let gateways_file = files.write("gateways.yaml", &gateways);
    let done = convert(&[&cilium_file, &gateways_file], &[]);
    assert_eq!((done.err.as_str(), done.out.as_str()), ("", printed.as_str()));
    // One text on standard input is the same set.
    let one = run_with(&["policy", "convert", "-f", "-"], &format!("{cilium}---\n{gateways}"));
    assert_eq!(one.ok(), printed);
}

#[test]
fn what_is_printed_parses_back_to_an_equal_set() {
    let [cilium, gateways, _] = example();
    let drained = documents().replace("priority: 0", "priority: -3");
    let names = gateways.replace("gw-a", "gw-z").replace("192.0.2.10", "192.0.2.99");
    for text in [
        format!("{cilium}---\n{gateways}"),
        documents(),
        drained,
        format!(
            "{}---\n{}---\n{names}",
            documents(),
            cilium.replace("203.0.113.16", "203.0.113.99").replace("payments", "c")
        ),
        "[]".to_owned(),
    ] {
        let files = Files::new();
        let file = files.write("all.yaml", &text);
        let (set, _) = policy::parse(&text, Format::Yaml).unwrap();
        for (form, format) in [("yaml", Format::Yaml), ("json", Format::Json)] {
            let out = convert(&[&file], &["-o", form]).ok();
            assert_eq!(policy::parse(&out, format).unwrap().0, set, "{out}");
            // Its own output is not changed again.
            let again = files.write(&format!("again.{form}"), &out);
            assert_eq!(convert(&[&again], &["-o", form]).ok(), out);
        }
    }
}

#[test]
fn warnings_go_to_standard_error() {
    let [cilium, gateways, _] = example();
    let files = Files::new();
    let cilium = cilium.replace("  - 0.0.0.0/0\n", "  - 0.0.0.0/0\n  - \"::/0\"\n");
    let cilium = files.write("cilium.yaml", &cilium);
    let gateways = files.write("gateways.yaml", &gateways);
    let done = convert(&[&gateways, &cilium], &[]);
    let warning = format!(
        "warning: {cilium}: CiliumEgressGatewayPolicy/payments: .spec.egressGateway.egressIP: the \
         policy selects IPv6 destinations"
    );
    assert!(done.err.starts_with(&warning), "{done:?}");
    assert!(done.ok().starts_with("apiVersion"));
}

#[test]
fn every_mistake_is_told_as_check_tells_it() {
    let [cilium, gateways, _] = example();
    let bad = cilium.replace("    egressIP: 203.0.113.16\n", "    interface: eth1\n");
    let files = Files::new();
    let one = files.write("one.yaml", &format!("{bad}---\n{gateways}"));
    let mistake =
        "CiliumEgressGatewayPolicy/payments: .spec.egressGateway.interface: is not supported";
    let message = convert(&[&one], &[]).failed(2);
    assert!(message.starts_with(&format!("error: {one} has a mistake:\n  {mistake}")), "{message}");
    let checked = run(&["check", "--config", "/not/there", "--policy", &one]).failed(2);
    assert!(checked.ends_with(&message), "{checked}\n{message}");

    // Of several files each line names its own.
    let (bad, other) = (files.write("bad.yaml", &bad), files.write("other.yaml", "kind: Pod\n"));
    let message = convert(&[&bad, &other], &[]).failed(2);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], format!("error: the set of {bad}, {other} has 4 mistakes:"));
    assert!(lines[1].starts_with(&format!("  {bad}: {mistake}")), "{message}");
    assert!(message.contains(&format!("  {other}: document 1: .kind: ")), "{message}");

    let (a, b) = (files.write("a.yaml", "a: ["), files.write("b.json", "{"));
    let message = convert(&[&a, &b], &[]).failed(2);
    assert!(message.starts_with(&format!("error: {a}: line 1, column ")), "{message}");
    assert!(message.contains(&format!("\n{b}: line 1, column ")), "{message}");
    let message = convert(&["/not/there.yaml"], &[]).failed(2);
    assert!(message.contains("/not/there.yaml: No such file"), "{message}");
    assert_eq!(run(&["policy", "convert"]).code, 2);
}
