"""Which image URIs stand for a built-in stack."""

import pytest

from moorage.engine.images import available, pins, resolve


@pytest.mark.parametrize(
    ("uri", "version"),
    [
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3", "1.2-1"),
        ("246618743249.dkr.ecr.us-west-2.amazonaws.com/sagemaker-scikit-learn:0.23-1-cpu-py3", "0.23-1"),
        ("450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn/sagemaker-scikit-learn:1.0-1-cpu-py3", "1.0-1"),
        ("000000000000.dkr.ecr.us-gov-west-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3", "1.4-2"),
        ("683313688378.dkr.ecr-fips.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1", "1.2-1"),
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:0.20.0-cpu-py3", "0.20.0"),
    ],
)
def test_every_account_and_region_of_the_grammar_gives_the_built_in(uri: str, version: str) -> None:
    image = resolve(uri)
    assert image is not None
    assert (image.framework, image.version, f"{image.repository}:{image.tag}") == ("scikit-learn", version, uri)
    assert image.resolved == f"{uri.partition(':')[0]}@{image.digest}"


@pytest.mark.parametrize(
    "uri",
    [
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:9.9-1-cpu-py3",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-gpu-py3",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn",
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn@sha256:" + "0" * 64,
        "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
        "12345.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3",
        "docker.io/library/nginx:latest",
        "",
    ],
)
def test_any_other_image_is_not_there(uri: str) -> None:
    assert resolve(uri) is None


def test_the_digest_says_what_the_built_in_consists_of() -> None:
    base = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:"
    one, same, other = (resolve(base + tag) for tag in ("1.2-1-cpu-py3", "1.2-1", "1.4-2"))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == len("sha256:") + 64


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13), (3, 14), (3, 99)])
def test_every_image_has_exact_pins_for_every_python(name: str, python: tuple[int, int]) -> None:
    version = name.partition(":")[2].removesuffix("-cpu-py3")
    contents = pins(version, python)
    assert contents.requirements[0].startswith("scikit-learn==")
    assert all("==" in requirement for requirement in contents.requirements)


def test_a_version_without_wheels_gets_the_nearest_one_and_a_warning() -> None:
    assert pins("1.2-1", (3, 11)).warning is None
    nearest = pins("1.2-1", (3, 12))
    assert nearest.requirements[0] == "scikit-learn==1.3.2"
    assert "no wheels for Python 3.12; the nearest one, 1.3.2, stands in" in (nearest.warning or "")
