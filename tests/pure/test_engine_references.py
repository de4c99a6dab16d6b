"""Names of images: Docker's rules, and which registry stands in for which."""

import pytest

from moorage.engine.references import Reference, UnusableReference, mirrored, parse_reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", ""),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", ""),
        ("me/model", "docker.io", "me/model", "latest", ""),
        ("me/model/deep:x", "docker.io", "me/model/deep", "x", ""),
        ("localhost/model", "localhost", "model", "latest", ""),
        ("localhost:5000/team/model:7", "localhost:5000", "team/model", "7", ""),
        ("quay.io/a/b_c.d-e:V1.0-x", "quay.io", "a/b_c.d-e", "V1.0-x", ""),
        (f"quay.io/a@{DIGEST}", "quay.io", "a", "", DIGEST),
        (f"quay.io/a:1@{DIGEST}", "quay.io", "a", "1", DIGEST),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/churn:3",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "churn",
            "3",
            "",
        ),
    ],
)
def test_name_is_read_as_docker_reads_it(text: str, registry: str, path: str, tag: str, digest: str) -> None:
    found = parse_reference(text)
    assert (found.registry, found.path, found.tag, found.digest) == (registry, path, tag, digest)


@pytest.mark.parametrize(
    "text", ["", "Model", "a b", "x/../y", "quay.io/a@sha256:1", "/a", "a:", "a:b:c", "http://a/b"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UnusableReference, match="is not the name of an image"):
        parse_reference(text)


def test_pinned_name_has_the_repository_as_the_user_wrote_it() -> None:
    assert parse_reference("me/model:7").pinned(DIGEST) == f"me/model@{DIGEST}"
    assert parse_reference(f"quay.io/a:1@{DIGEST}").pinned(DIGEST) == f"quay.io/a@{DIGEST}"


def test_digest_wins_over_the_tag() -> None:
    assert parse_reference(f"quay.io/a:1@{DIGEST}").version == DIGEST
    assert str(parse_reference(f"quay.io/a:1@{DIGEST}")) == f"quay.io/a@{DIGEST}"
    assert str(parse_reference("nginx")) == "docker.io/library/nginx:latest"


ECR = parse_reference("123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/churn:3")


@pytest.mark.parametrize(
    ("mirrors", "expected"),
    [
        ({}, "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/churn:3"),
        ({"*.dkr.ecr.*.amazonaws.com": "localhost:5000"}, "localhost:5000/team/churn:3"),
        ({"*.dkr.ecr.*.amazonaws.com": "localhost:5000/aws"}, "localhost:5000/aws/team/churn:3"),
        ({"*.dkr.ecr.us-*": "one", "1234*": "two:1", "*": "three:1"}, "two:1/team/churn:3"),
        ({"quay.io": "localhost:5000"}, "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/churn:3"),
    ],
)
def test_first_mirror_that_fits_stands_in_for_a_registry(mirrors: dict[str, str], expected: str) -> None:
    found: Reference = mirrored(ECR, mirrors)
    assert str(found) == expected
    assert found.written == ECR.written
