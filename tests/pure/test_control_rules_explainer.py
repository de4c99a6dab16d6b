"""Rules about the explainer, each by itself, with the texts of explainer.md section 1.3."""

from typing import Any

import pytest
from tests.support.configs import explained, of

from moorage.control.rules import Rule
from moorage.control.rules import explainer as rules

TEXTS = {"TextConfig": {"Language": "en", "Granularity": "token"}}
LINES = "application/jsonlines"

CASES: list[tuple[Rule, dict[str, Any], str | None]] = [
    (rules.one_baseline, of(), None),
    (rules.one_baseline, of(ExplainerConfig={}), None),
    (rules.one_baseline, explained(ShapBaseline="1"), None),
    (rules.one_baseline, explained(ShapBaselineUri="s3://b/k"), None),
    (
        rules.one_baseline,
        explained(ShapBaseline="1", ShapBaselineUri="s3://b/k"),
        "ShapBaseline and ShapBaselineUri are mutually exclusive. Provide exactly one of them in ShapBaselineConfig.",
    ),
    (rules.one_baseline, explained(), "One of ShapBaseline or ShapBaselineUri is required in ShapBaselineConfig."),
    (rules.baseline_format_is_known, explained(ShapBaseline="1"), None),
    (rules.baseline_format_is_known, explained(MimeType=LINES), None),
    (
        rules.baseline_format_is_known,
        explained(MimeType="text/plain"),
        "Unsupported ShapBaselineConfig MimeType 'text/plain'. Supported: text/csv, application/jsonlines.",
    ),
    (rules.feature_types_are_for_text, explained(), None),
    (rules.feature_types_are_for_text, explained(TEXTS), None),
    (rules.feature_types_are_for_text, explained(TEXTS, {"FeatureTypes": ["numerical", "text"]}), None),
    (
        rules.feature_types_are_for_text,
        explained(inference={"FeatureTypes": ["numerical"]}),
        "FeatureTypes must contain at least one 'text'.",
    ),
    (
        rules.feature_types_are_for_text,
        explained(inference={"FeatureTypes": ["text"]}),
        "TextConfig is required when FeatureTypes contains 'text'.",
    ),
    (rules.headers_fit_types, explained(inference={"FeatureHeaders": ["a"], "FeatureTypes": ["text"]}), None),
    (rules.headers_fit_types, explained(inference={"FeatureHeaders": ["a"]}), None),
    (
        rules.headers_fit_types,
        explained(inference={"FeatureHeaders": ["a", "b"], "FeatureTypes": ["text"]}),
        "FeatureHeaders has 2 items but FeatureTypes has 1.",
    ),
    (rules.template_makes_an_object, explained(inference={}), None),
    (rules.template_makes_an_object, explained(inference={"ContentTemplate": '{"x":$features}'}), None),
    *(
        (
            rules.template_makes_an_object,
            explained(inference={"ContentTemplate": template}),
            "ContentTemplate must contain exactly one $features placeholder and form a JSON object.",
        )
        for template in ("{}", "$features", '{"x":$features', '{"x":$features,"y":$features}')
    ),
    (rules.baseline_is_a_table, explained(ShapBaseline="1,2\r\n3,\n"), None),
    (rules.baseline_is_a_table, explained(ShapBaseline='<UNK>,"<MASK>, ""x"""\n'), None),
    (rules.baseline_is_a_table, explained(ShapBaseline='""'), None),
    (rules.baseline_is_a_table, explained(ShapBaseline="[1,2]\n[3,4]", MimeType=LINES), None),
    (rules.baseline_is_a_table, explained(ShapBaselineUri="s3://b/k"), None),
    (
        rules.baseline_is_a_table,
        explained(inference={"FeaturesAttribute": "x"}, ShapBaseline='{"x":[1]}\r\n', MimeType=LINES),
        None,
    ),
    (
        rules.baseline_is_a_table,
        explained(ShapBaseline="1,2\n3"),
        "ShapBaseline could not be parsed as text/csv: the rows have different numbers of features",
    ),
    (
        rules.baseline_is_a_table,
        explained(ShapBaseline="1\n\n2"),
        "ShapBaseline could not be parsed as text/csv: a row is empty",
    ),
    (
        rules.baseline_is_a_table,
        explained(ShapBaseline="\n"),
        "ShapBaseline could not be parsed as text/csv: a row is empty",
    ),
    (
        rules.baseline_is_a_table,
        explained(inference={"FeatureHeaders": ["a"]}, ShapBaseline="1,2"),
        "ShapBaseline could not be parsed as text/csv: the rows have 2 features but FeatureHeaders has 1 items",
    ),
    (
        rules.baseline_is_a_table,
        explained(ShapBaseline='{"x":[1]}', MimeType=LINES),
        (
            "ShapBaseline could not be parsed as application/jsonlines: "
            "each line must be a list of features when FeaturesAttribute is not specified"
        ),
    ),
    (
        rules.texts_have_texts_as_baseline,
        explained(TEXTS, {"FeatureTypes": ["text", "numerical"]}, ShapBaseline='["",1]', MimeType=LINES),
        None,
    ),
    (
        rules.texts_have_texts_as_baseline,
        explained(TEXTS, {"FeatureTypes": ["numerical", "text"]}, ShapBaseline='["",1]', MimeType=LINES),
        "Baseline of text feature 2 must be a string.",
    ),
]


@pytest.mark.parametrize(("rule", "request_", "text"), CASES)
def test_rule(rule: Rule, request_: dict[str, Any], text: str | None) -> None:
    assert rule(request_) == text


@pytest.mark.parametrize("baseline", ["[1", '{"a": NaN}', "[" * 4000, "[1]\n\n[2]"])
def test_baseline_that_is_no_json_is_refused(baseline: str) -> None:
    violation = rules.baseline_is_a_table(explained(ShapBaseline=baseline, MimeType=LINES))
    assert violation is not None
    assert violation.startswith("ShapBaseline could not be parsed as application/jsonlines: ")


def test_every_rule_is_kept_by_one_case_and_broken_by_another() -> None:
    kept = {rule for rule, _, text in CASES if text is None}
    broken = {rule for rule, _, text in CASES if text is not None}
    assert kept == broken == set(rules.RULES)
