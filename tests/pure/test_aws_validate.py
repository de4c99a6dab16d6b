"""Each kind of modelled constraint is checked, at any depth, and told in AWS's grammar."""

import re
import sys
import unicodedata
from typing import Any

import pytest

from moorage.aws import validate
from moorage.aws.errors import ClientFault
from moorage.aws.patterns import compile_pattern
from moorage.aws.shapes import StringShape, StructureShape, load_service

SERVICE = load_service("sagemaker")
NAME_PATTERN = "Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/m"


def input_of(name: str) -> StructureShape:
    shape = SERVICE.operations[name].input
    assert shape is not None
    return shape


def violations(name: str, value: dict[str, Any]) -> list[str]:
    return validate.violations(input_of(name), value)


def violation(value: object, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def test_a_valid_request_has_no_violations() -> None:
    variant = {"VariantName": "blue", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    validate.check(input_of("CreateEndpointConfig"), {"EndpointConfigName": "c", "ProductionVariants": [variant]})


def test_a_missing_member() -> None:
    assert violations("DescribeModel", {}) == [violation(None, "modelName", "Member must not be null")]


def test_a_pattern() -> None:
    assert violations("DescribeEndpoint", {"EndpointName": "a_b"}) == [violation("a_b", "endpointName", NAME_PATTERN)]


def test_a_pattern_of_something_that_is_no_name_has_no_caret() -> None:
    assert violations("ListTags", {"ResourceArn": ""}) == [
        violation(
            "",
            "resourceArn",
            "Member must satisfy regular expression pattern: arn:aws[a-z-]*:sagemaker:[a-z0-9-]*:[0-9]{12}:.+",
        )
    ]


def test_a_text_too_long_tells_its_length_before_its_pattern() -> None:
    name = "a" * 64
    assert violations("DescribeEndpoint", {"EndpointName": name}) == [
        violation(name, "endpointName", "Member must have length less than or equal to 63"),
        violation(name, "endpointName", NAME_PATTERN),
    ]


def test_a_text_too_short() -> None:
    found = violations("CreateModel", {"ModelName": "m", "ExecutionRoleArn": "x"})
    assert found[0] == violation("x", "executionRoleArn", "Member must have length greater than or equal to 20")
    assert len(found) == 2


@pytest.mark.parametrize(
    ("name", "value", "constraint"),
    [
        ("ListModels", 0, "Member must have value greater than or equal to 1"),
        ("ListModels", 101, "Member must have value less than or equal to 100"),
    ],
)
def test_a_number_out_of_range(name: str, value: int, constraint: str) -> None:
    assert violations(name, {"MaxResults": value}) == [violation(value, "maxResults", constraint)]


def test_a_value_that_is_not_of_the_enumeration() -> None:
    assert violations("ListModels", {"SortBy": "name"}) == [
        violation("name", "sortBy", "Member must satisfy enum value set: [Name, CreationTime]")
    ]


def test_a_list_too_short() -> None:
    value = {"EndpointConfigName": "c", "ProductionVariants": []}
    constraint = "Member must have length greater than or equal to 1"
    assert violations("CreateEndpointConfig", value) == [violation("[]", "productionVariants", constraint)]


def test_a_list_too_long_is_told_once() -> None:
    value = {"ResourceArn": ARN, "Tags": [{"Key": "", "Value": "v"}] * 51}
    found = violations("AddTags", value)
    assert len(found) == 1
    assert found[0].endswith("at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50")
    assert found[0].startswith("Value '[Tag(Key=, Value=v), Tag(Key=, Value=v)")


def test_inside_a_list_the_path_has_the_index_from_one() -> None:
    variants = [{"VariantName": "a"}, {"VariantName": "b", "InitialInstanceCount": 0}]
    value = {"EndpointConfigName": "c", "ProductionVariants": variants}
    path = "productionVariants.2.member.initialInstanceCount"
    constraint = "Member must have value greater than or equal to 1"
    assert violations("CreateEndpointConfig", value) == [violation(0, path, constraint)]


def test_null_inside_a_list_of_structures() -> None:
    value = {"EndpointConfigName": "c", "ProductionVariants": [None]}
    path = "productionVariants.1.member"
    assert violations("CreateEndpointConfig", value) == [violation(None, path, "Member must not be null")]


def test_elements_of_a_list_of_texts_are_told_on_the_list() -> None:
    assert violations("DeleteTags", {"ResourceArn": ARN, "TagKeys": ["a", "b*"]}) == [
        violation(
            "[a, b*]",
            "tagKeys",
            "Member must satisfy constraint: [Member must have length less than or equal to 128, "
            "Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: "
            r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)]",
        )
    ]


def test_null_inside_a_list_of_texts() -> None:
    assert violations("DeleteTags", {"ResourceArn": ARN, "TagKeys": [None]}) == [
        violation("[null]", "tagKeys", "Member must satisfy constraint: [Member must not be null]")
    ]


def test_keys_of_a_map() -> None:
    value = {"ModelName": "m", "PrimaryContainer": {"Environment": {"1A": "x"}}}
    assert violations("CreateModel", value) == [
        violation(
            "{1A=x}",
            "primaryContainer.environment",
            "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, "
            "Member must have length greater than or equal to 0, "
            "Member must satisfy regular expression pattern: [a-zA-Z_][a-zA-Z0-9_]*]",
        )
    ]


def test_values_of_a_map() -> None:
    value = {"ModelName": "m", "PrimaryContainer": {"Environment": {"A": "x" * 1025}}}
    (found,) = violations("CreateModel", value)
    assert "at 'primaryContainer.environment' failed to satisfy constraint: Map value must satisfy" in found


def test_a_map_too_large_is_told_once() -> None:
    environment = {f"1{number}": "x" for number in range(101)}
    (found,) = violations("CreateModel", {"ModelName": "m", "PrimaryContainer": {"Environment": environment}})
    assert found.endswith("Member must have length less than or equal to 100")


def test_all_violations_are_in_one_message() -> None:
    value = {"ModelName": "bad_name", "PrimaryContainer": {"Image": "img:1"}, "ExecutionRoleArn": "x"}
    with pytest.raises(ClientFault) as caught:
        validate.check(input_of("CreateModel"), value)
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
    # The example of control-plane.md, Appendix B.
    assert caught.value.message == (
        "3 validation errors detected: Value 'bad_name' at 'modelName' failed to satisfy constraint: Member must "
        r"satisfy regular expression pattern: ^[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?; Value 'x' at "
        "'executionRoleArn' failed to satisfy constraint: Member must have length greater than or equal to 20; "
        "Value 'x' at 'executionRoleArn' failed to satisfy constraint: Member must satisfy regular expression "
        r"pattern: arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"
    )


def test_one_violation_is_one_error() -> None:
    assert validate.message_of(["x"]) == "1 validation error detected: x"


def test_the_message_has_an_end() -> None:
    value = {"EndpointName": "e", "DesiredWeightsAndCapacities": [{"DesiredWeight": -1.0}] * 5000}
    assert len(violations("UpdateEndpointWeightsAndCapacities", value)) == validate.MOST_VIOLATIONS


def test_the_body_is_not_looked_at_when_ignored() -> None:
    shape = load_service("sagemaker-runtime").operations["InvokeEndpoint"].input
    assert shape is not None
    assert validate.violations(shape, {"EndpointName": "e"}, ignored=["Body"]) == []


def test_a_blob_has_a_length() -> None:
    shape = load_service("sagemaker-runtime").operations["InvokeEndpointAsync"].input
    assert shape is not None
    (found,) = validate.violations(shape, {"EndpointName": "e", "Body": bytes(128_001)})
    assert found.startswith("Value 'java.nio.HeapByteBuffer[pos=0 lim=128001 cap=128001]' at 'body' failed")


PATTERNS = sorted(
    {
        shape.pattern
        for name in ("sagemaker", "sagemaker-runtime")
        for shape in (load_service(name).shape(entry) for entry in load_service(name).shape_names)
        if isinstance(shape, StringShape) and shape.pattern
    }
)


@pytest.mark.timeout(5)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    "text",
    ["a" * 500, "-" * 500, "a-" * 250, "a" + "-" * 500, "s3://" + "a" * 500 + "\n", "a/" * 250 + "\n", "." * 500],
)
def test_no_pattern_takes_long(pattern: str, text: str) -> None:
    compile_pattern(pattern).fullmatch(text)


@pytest.mark.timeout(5)
def test_a_text_far_too_long_is_refused_quickly() -> None:
    for text in ("a-" * 500_000, "-" * 1_000_000, "s3://" + "a" * 1_000_000 + "\n"):
        found = violations("CreateModel", {"ModelName": text, "PrimaryContainer": {"ModelDataUrl": text}})
        assert len(found) == 2


def test_word_characters_of_python_are_the_letters_and_numbers_of_java() -> None:
    """The translation of the tags' pattern stands on this."""
    word = re.compile(r"\w")
    different = [
        code
        for code in range(sys.maxunicode + 1)
        if (unicodedata.category(chr(code))[0] in "LN" or chr(code) == "_") != bool(word.fullmatch(chr(code)))
    ]
    assert different == []


TAG_PATTERN = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"


@pytest.mark.parametrize("text", ["", "Größe 数 ٣", "a b\u2003c", "team:a/b=c+d-e@f_g.h"])
def test_tags_take_letters_numbers_and_spaces_of_all_scripts(text: str) -> None:
    assert compile_pattern(TAG_PATTERN).fullmatch(text)


@pytest.mark.parametrize("text", ["a\tb", "a*b", "a\u0301", "a\nb"])
def test_tags_take_no_marks_and_controls(text: str) -> None:
    assert not compile_pattern(TAG_PATTERN).fullmatch(text)


@pytest.mark.parametrize(
    ("text", "symbols", "no_symbols"),
    [("Größe 数 ٣ a\u0301!", True, True), ("5 € + 1", True, False), ("a\tb", False, False), ("", True, True)],
)
def test_descriptions_take_all_but_controls(text: str, *, symbols: bool, no_symbols: bool) -> None:
    description, source = r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}]*", r"[\p{L}\p{M}\p{Z}\p{N}\p{P}]{0,1024}"
    assert bool(compile_pattern(description).fullmatch(text)) is symbols
    assert bool(compile_pattern(source).fullmatch(text)) is no_symbols
    assert not compile_pattern(source).fullmatch("a" * 1025)


@pytest.mark.parametrize("text", ["\u0663", "123\n", "\uff11\uff12"])
def test_digits_are_those_of_ascii(text: str) -> None:
    assert not compile_pattern(r"\d+").fullmatch(text)


@pytest.mark.parametrize("end", ["\n", "\r", "\u0085", "\u2028"])
def test_a_dot_stops_at_the_line_ends_of_java(end: str) -> None:
    assert not compile_pattern(".*").fullmatch(f"a{end}b")
    assert compile_pattern("[.]+").fullmatch("...")
