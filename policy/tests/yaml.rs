//! How YAML is understood: scalars, tags, anchors, merges. Annotations take any text, and say what else
//! they were given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::*;
use policy::{Format, LoadError};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A gateway with this as the value of an annotation.
fn annotated(value: &str) -> String {
    GATEWAY.replace("{name: gw-a}", &format!("\n  name: gw-a\n  annotations:\n    a: {value}"))
}

#[test]
fn plain_scalars_are_text_only_where_every_reader_agrees() {
    let texts = [
        "abc",
        "10.0.0.1",
        "10.0.0.0/8",
        "1.2.3",
        "1-2",
        "a1",
        "2001:db8::1",
        ".",
        "..",
        "+",
        "e5",
        "0b1",
        "12:30",
        "yesterday",
        "nul",
        "Nan",
        "inf",
        "no-way",
        "1_000",
        "010",
        "0x",
        "0xg",
        "0o9",
        "1e",
        "1e5x",
        "é",
    ];
    for text in texts {
        let (set, _) = load_good(&[&annotated(text)]);
        assert_eq!(set.gateways[0].metadata.annotations["a"], text);
        assert_eq!(policy::parse(&set.to_yaml(), Format::Yaml).unwrap().0, set, "{text}");
    }
    // (what is written, what it is taken for)
    let others = [
        ("", "nothing"),
        ("~", "nothing"),
        ("null", "nothing"),
        ("NULL", "nothing"),
        ("true", "the boolean true"),
        ("FALSE", "the boolean false"),
        ("yes", "the boolean true"),
        ("No", "the boolean false"),
        ("on", "the boolean true"),
        ("n", "the boolean false"),
        ("0", "the number 0"),
        ("-12", "the number -12"),
        ("+7", "the number 7"),
        ("0x1F", "the number 31"),
        ("0o17", "the number 15"),
        ("1.5", "the number 1.5"),
        (".5", "the number 0.5"),
        ("5.", "the number 5"),
        ("1e3", "the number 1000"),
        ("-1.5E-1", "the number -0.15"),
        (".inf", "the number inf"),
        ("-.INF", "the number -inf"),
        (".NaN", "the number NaN"),
        ("99999999999999999999", "the number 100000000000000000000"),
        ("[x]", "a list"),
        ("{x: y}", "a map"),
        ("!!int \"5\"", "the number 5"),
        ("!!bool yes", "the boolean true"),
    ];
    for (text, found) in others {
        let errors = errors(&[&annotated(text)]);
        let expected = format!("expected text, found {found}");
        assert_eq!((errors.len(), &errors[0].reason), (1, &expected), "{text}");
    }
}

#[test]
fn quotes_blocks_and_tags_make_text() {
    let cases = [
        ("\"5\"", "5"),
        ("'yes'", "yes"),
        ("\"\"", ""),
        ("\"a\\tb\\u00e9\"", "a\tbé"),
        ("!!str 5", "5"),
        ("!!str", ""),
        ("|\n      two\n      lines", "two\nlines\n"),
        (">-\n      one\n      line", "one line"),
    ];
    for (text, expected) in cases {
        let (set, _) = load_good(&[&annotated(text)]);
        assert_eq!(set.gateways[0].metadata.annotations["a"], expected, "{text}");
    }
}

#[test]
fn anchors_and_merges_repeat_what_is_written_once() {
    let labels = "labels: &labels {a: b, c: d}";
    let first = GATEWAY.replace("{name: gw-a}", &format!("{{name: &name gw-a, {labels}}}"));
    let one = first.replace("{name: &name", "&all {name: &name");
    // Anchors end with their document.
    let said = load(&[&one, &GATEWAY.replace("{name: gw-a}", "*all")]).unwrap_err();
    assert!(matches!(said, LoadError::Syntax(_)), "{said}");

    let merged = one.replace("gw-a", "gw-b").replace(
        "spec:",
        "status: {own: {<<: *labels, a: x}, list: {<<: [*labels, {a: y, e: f}]}, *name : 1}\nspec:",
    );
    load_good(&[&merged]);
    let policy = policy_with(
        "p",
        "selectors:\n- podSelector: {matchLabels: &l {a: b, c: d}}\n\
         - podSelector: {matchLabels: {c: x, <<: *l, e: f}}\n\
         destinationCIDRs: &d [0.0.0.0/0]\n\
         excludedCIDRs: *d\n\
         egress: [{gateway: gw-a, egressIPs: [203.0.113.16]}]",
    );
    let (set, _) = load_good(&[GATEWAY, &policy]);
    let spec = &set.policies[0].spec;
    assert_eq!(spec.excluded_cidrs, spec.destination_cidrs);
    let labels = &spec.selectors[1].pod_selector.as_ref().unwrap().match_labels;
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["a=b", "c=x", "e=f"]);
}

#[test]
fn what_has_no_meaning_here_has_a_place() {
    let cases = [
        ("a: !secret x\n", (1, 12), "the tag !secret means nothing here"),
        ("a: !!set {x}\n", (1, 10), "the tag !!set means nothing here"),
        ("? [x]\n: y\n", (1, 3), "the key of a map must be text"),
        ("a: &b {c: *b}\n", (1, 11), "this alias refers to what it is a part of"),
        ("a: {<<: x}\n", (1, 9), "<< takes a map, or a list of maps"),
        ("a: {<<: {}, <<: {}}\n", (1, 13), "duplicate key \"<<\""),
        ("a: {b: 1, \"b\": 2}\n", (1, 11), "duplicate key \"b\""),
    ];
    for (text, place, message) in cases {
        let Err(LoadError::Syntax(errors)) = policy::parse(text, Format::Yaml) else {
            panic!("{text}")
        };
        let found = ((errors[0].line, errors[0].column), errors[0].message.as_str());
        assert_eq!(found, (place, message), "{text}");
    }
}

/// Parts of texts that may look like something else.
const AWKWARD: &str = "0 1 9 . + - e E x o b _ n y N O true es on ull null inf .inf nan ~ : # ' \" \
                       ! & * % @ ` { } , [ ] ? | > << = \t \n --- ... é \u{feff} \u{85} \u{2028} \\ a";

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..Default::default() })]

    /// What is written and what is read are different libraries' views of the same language.
    #[test]
    fn any_text_survives_writing_and_reading(
        parts in vec(select(AWKWARD.split(' ').chain([" ", ": ", " #"]).collect::<Vec<_>>()), 0..7),
    ) {
        let (mut set, _) = load_good(&[GATEWAY]);
        let text = parts.concat();
        set.gateways[0].metadata.annotations.insert("a".to_owned(), text.clone());
        let yaml = set.to_yaml();
        let again = policy::parse(&yaml, Format::Yaml);
        prop_assert_eq!(again.map(|(set, _)| set), Ok(set), "{:?} as\n{}", text, yaml);
    }
}
