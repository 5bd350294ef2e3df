//! The selectors of a policy.

use crate::reader::{Fields, Report, Value};
use crate::selector::{LabelSelector, Operator, Requirement, Selector};
use crate::values;

/// `spec.selectors` of a policy.
pub(super) fn list(fields: &Fields<'_>, report: &mut Report<'_>) -> Vec<Selector> {
    let Some(list) = fields.required_list("selectors", report) else { return Vec::new() };
    list.items(report).filter_map(|item| selector(&item, report)).collect()
}

fn selector(value: &Value<'_>, report: &mut Report<'_>) -> Option<Selector> {
    let fields = value.fields(&["namespaceSelector", "podSelector"], report)?;
    let namespaces = fields.optional("namespaceSelector");
    let pods = fields.optional("podSelector");
    if namespaces.is_none() && pods.is_none() {
        let hint = "to select every pod write podSelector: {}";
        report.error(value.path, "needs a podSelector or a namespaceSelector", hint);
    }
    Some(Selector {
        namespace_selector: namespaces.and_then(|part| label_selector(&part, report)),
        pod_selector: pods.and_then(|part| label_selector(&part, report)),
    })
}

pub(super) fn label_selector(value: &Value<'_>, report: &mut Report<'_>) -> Option<LabelSelector> {
    let fields = value.fields(&["matchLabels", "matchExpressions"], report)?;
    let match_labels = values::labels(fields.optional("matchLabels"), report);
    let expressions = fields.optional("matchExpressions");
    let match_expressions = expressions
        .map(|list| list.items(report).filter_map(|item| requirement(&item, report)).collect());
    Some(LabelSelector { match_labels, match_expressions: match_expressions.unwrap_or_default() })
}

fn requirement(value: &Value<'_>, report: &mut Report<'_>) -> Option<Requirement> {
    let fields = value.fields(&["key", "operator", "values"], report)?;
    let key = fields.required("key", report).and_then(|key| {
        let text = key.text(report)?;
        values::check_label_key(text, key.path, report);
        Some(text.to_owned())
    });
    let operators = [
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
        ("Exists", Operator::Exists),
        ("DoesNotExist", Operator::DoesNotExist),
    ];
    let operator = fields.required("operator", report);
    let operator = operator.and_then(|operator| operator.choice(&operators, report));

    let list = fields.optional("values");
    let is_empty = list.as_ref().is_none_or(Value::is_empty_list);
    match operator {
        Some(Operator::In | Operator::NotIn) if is_empty => {
            report.error(fields.path_of("values"), "In and NotIn need at least one value", "");
        }
        Some(Operator::Exists | Operator::DoesNotExist) if !is_empty => {
            let hint = "remove them, or write In or NotIn";
            report.error(fields.path_of("values"), "Exists and DoesNotExist take no values", hint);
        }
        _ => {}
    }
    let values = list.map(|list| {
        list.items(report).filter_map(|item| values::label_value(&item, report)).collect()
    });
    Some(Requirement { key: key?, operator: operator?, values: values.unwrap_or_default() })
}
