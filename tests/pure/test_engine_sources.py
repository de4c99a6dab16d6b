"""Which files objects become, and what a manifest says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engine.sources.faults import SourceRefused
from moorage.engine.sources.manifest import keys_of
from moorage.engine.sources.names import file_of, paths_of
from moorage.objects.places import S3Place

PREFIX = S3Place("b", "m/")


def test_prefix_is_taken_off_and_folders_stay() -> None:
    keys = ["m/weights", "m/code/inference.py", "m/code/lib/a b"]
    assert paths_of(keys, "m/") == {
        "m/weights": "weights",
        "m/code/inference.py": "code/inference.py",
        "m/code/lib/a b": "code/lib/a b",
    }


def test_single_object_has_the_last_part_of_its_key() -> None:
    assert file_of("a/b/model.bin") == "model.bin"
    assert file_of("model.bin") == "model.bin"


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", "an empty name (the S3 console"),
        ("folder/", "an empty name (the S3 console"),
        ("a//b", "an empty name"),
        ("/a", "an empty name"),
        ("a/ /b", "an empty name"),
        ("a\0b", "a null byte"),
        ("x" * 256, "more than 255 bytes"),
        ("d/" + "é" * 128, "more than 255 bytes"),
        (".", "the name '.'"),
        ("a/./b", "the name '.'"),
        ("..", "the name '..'"),
        ("a/../../b", "the name '..'"),
    ],
)
def test_names_that_cannot_be_files_are_refused(rest: str, said: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        paths_of([f"m/{rest}", "m/good"], "m/")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "\0" not in str(refused.value)
    if "/" not in rest:
        with pytest.raises(SourceRefused):
            file_of(f"m/{rest}")


def test_folders_deeper_than_they_can_be_walked_through_are_refused() -> None:
    assert paths_of(["m/" + "d/" * 100 + "x"], "m/")
    with pytest.raises(SourceRefused, match="more than 100 folders in each other"):
        paths_of(["m/" + "d/" * 101 + "x"], "m/")


def test_names_may_be_as_long_as_files_can_have_them() -> None:
    assert paths_of(["m/" + "x" * 255], "m/")


@pytest.mark.parametrize("keys", [["m/weights", "m/weights/part1"], ["m/a/b/c/d", "m/z", "m/a/b"]])
def test_file_and_folder_of_one_name_are_refused(keys: list[str]) -> None:
    with pytest.raises(SourceRefused, match="both as an object and as a folder"):
        paths_of(keys, "m/")


@given(st.lists(st.text(max_size=20)))
def test_no_path_leads_out(keys: list[str]) -> None:
    try:
        paths = paths_of([f"m/{key}" for key in keys], "m/")
    except SourceRefused:
        return
    for path in paths.values():
        assert not path.startswith("/")
        assert {"", ".", ".."}.isdisjoint(path.split("/"))


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"s3://b/m/a\ns3://b/m/c/d\n", ["m/a", "m/c/d"]),
        (b"a\r\nc/d", ["m/a", "m/c/d"]),
        (b'\xef\xbb\xbf"s3://b/m/a, with ""quotes"""\n\n', ['m/a, with "quotes"']),
        (b"https://b.s3.eu-west-1.amazonaws.com/m/a\na\n", ["m/a"]),
    ],
)
def test_manifest_lists_locations(content: bytes, keys: list[str]) -> None:
    assert keys_of(content, PREFIX) == keys


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lists no objects"),
        (b"\n \n", "lists no objects"),
        (b"a,b\n", "line 1 has 2 values"),
        (b"ok\ns3://b/other/a\n", "s3://b/other/a, which is not below s3://b/m/"),
        (b"s3://c/m/a\n", "not below"),
        (b"https://example.com/m/a\n", "not below"),
        (b"s3://\n", "no object's location"),
        (b'"unclosed\n', "not a CSV file"),
        (b"\xff\xfe", "not a CSV file"),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        keys_of(content, PREFIX)
    assert said in str(refused.value)
