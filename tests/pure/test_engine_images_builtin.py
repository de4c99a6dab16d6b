"""Which image URIs stand for a built-in stack, and which packages that is."""

import pytest

from moorage.engine.images import pins
from moorage.engine.images.builtin import (
    FRAMEWORKS,
    TOOLKITS,
    available,
    of_repository,
    resolve,
    resolve_shown,
    what_there_is,
)
from moorage.engine.images.pins import Python

EAST = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com"
PYTHONS: tuple[Python, ...] = ((3, 11), (3, 12), (3, 13), (3, 14), (3, 99))


@pytest.mark.parametrize(
    ("uri", "toolkit", "version"),
    [
        (f"{EAST}/sagemaker-scikit-learn:1.2-1-cpu-py3", "sklearn", "1.2-1"),
        (f"{EAST}/sagemaker-scikit-learn:1.2-1", "sklearn", "1.2-1"),
        (f"{EAST}/sagemaker-scikit-learn:1.2-1-cpu-py38", "sklearn", "1.2-1"),
        (f"{EAST}/sagemaker-scikit-learn:0.20.0-cpu-py3", "sklearn", "0.20.0"),
        (f"{EAST}/sagemaker-scikit-learn:1.2-1-cpu-py3@sha256:{'0' * 64}", "sklearn", "1.2-1"),
        (f"{EAST}/sagemaker-xgboost:1.7-1", "xgboost", "1.7-1"),
        (f"{EAST}/sagemaker-xgboost:3.0-5", "xgboost", "3.0-5"),
        (f"{EAST}/sagemaker-xgboost:0.90-2-cpu-py3", "xgboost", "0.90-2"),
        ("433757028032.dkr.ecr.us-west-2.amazonaws.com/xgboost:1", "xgboost", "1"),
        ("433757028032.dkr.ecr.us-west-2.amazonaws.com/xgboost:latest", "xgboost", "latest"),
        (f"{DLC}/pytorch-inference:2.3.0-cpu-py311", "pytorch", "2.3.0"),
        (f"{DLC}/pytorch-inference:2.6-gpu-py312", "pytorch", "2.6"),
        (f"{DLC}/pytorch-inference:2.6.0-gpu-py312-cu124-ubuntu22.04-sagemaker-v1.5", "pytorch", "2.6.0"),
        (f"{DLC}/pytorch-inference:1.13.1", "pytorch", "1.13.1"),
        (f"{DLC}/pytorch-inference-graviton:2.3.0-cpu-py311-ubuntu20.04-sagemaker", "pytorch", "2.3.0"),
        (
            f"{DLC}/huggingface-pytorch-inference:2.1.0-transformers4.37.0-cpu-py310-ubuntu22.04",
            "huggingface",
            "2.1.0-4.37.0",
        ),
        (f"{DLC}/huggingface-pytorch-inference:2.6-transformers4.49-gpu-py312", "huggingface", "2.6-4.49"),
        ("moorage/onnx", "onnx", ""),
        ("moorage/onnx:latest", "onnx", ""),
        ("moorage/onnx:1.20", "onnx", "1.20"),
        ("moorage/python", "python", ""),
        ("moorage/python:3.12", "python", "3.12"),
    ],
)
def test_repository_and_tag_say_which_stack_it_is(uri: str, toolkit: str, version: str) -> None:
    image = resolve(uri)
    assert image is not None
    assert (image.toolkit, image.version) == (toolkit, version)
    assert image.resolved == f"{image.repository}@{image.digest}"
    assert uri.startswith(image.repository + (f":{image.tag}" if image.tag else ""))


@pytest.mark.parametrize(
    "registry",
    [
        "683313688378.dkr.ecr.us-east-1.amazonaws.com",
        "000000000000.dkr.ecr.ap-southeast-4.amazonaws.com",
        "450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn",
        "442386744353.dkr.ecr.us-gov-west-1.amazonaws.com",
        "123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov",
        "123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov",
        "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
        "683313688378.dkr.ecr-fips.us-east-1.amazonaws.com",
        "683313688378.dkr-ecr.us-east-1.on.aws",
        "683313688378.dkr-ecr-fips.us-gov-east-1.on.aws",
    ],
)
def test_account_region_and_partition_do_not_matter(registry: str) -> None:
    image = resolve(f"{registry}/sagemaker-xgboost:1.7-1")
    assert image is not None
    assert (image.repository, image.name) == (f"{registry}/sagemaker-xgboost", "sagemaker-xgboost:1.7-1")


@pytest.mark.parametrize(
    "uri",
    [
        f"{EAST}/sagemaker-scikit-learn:9.9-1-cpu-py3",
        f"{EAST}/sagemaker-scikit-learn:1.2-1-gpu-py3",
        f"{EAST}/sagemaker-scikit-learn",
        f"{EAST}/sagemaker-scikit-learn@sha256:{'0' * 64}",
        f"{EAST}/sagemaker-scikit-learn:1.2-1@sha256:0",
        f"{EAST}/sagemaker-xgboost:2.9-1",
        f"{EAST}/sagemaker-xgboost:latest",
        f"{EAST}/xgboost:2",
        f"{EAST}/team/sagemaker-xgboost:1.7-1",
        f"{DLC}/pytorch-inference:latest",
        f"{DLC}/pytorch-inference:3.0.0-cpu-py311",
        f"{DLC}/pytorch-training:2.3.0-cpu-py311",
        f"{DLC}/huggingface-pytorch-inference:2.1.0-cpu-py310",
        f"{DLC}/huggingface-pytorch-inference-neuron:2.1.0-transformers4.37.0-cpu-py310",
        f"{DLC}/tensorflow-inference:2.14.1-cpu",
        "12345.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1",
        "docker.io/library/nginx:latest",
        "sagemaker-xgboost:1.7-1",
        "moorage/tensorflow",
        "moorage/onnx:2.0",
        f"moorage/onnx@sha256:{'0' * 64}",
        "registry.lan/moorage/onnx",
        "",
    ],
)
def test_any_other_image_is_not_there(uri: str) -> None:
    assert resolve(uri) is None


def test_the_digest_says_what_the_built_in_consists_of() -> None:
    one, same, other = (resolve(f"{EAST}/sagemaker-scikit-learn:{tag}") for tag in ("1.2-1-cpu-py3", "1.2-1", "1.4-2"))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == len("sha256:") + 64


@pytest.mark.parametrize("name", [name.replace("VERSION", "2.3", 1).replace("VERSION", "4.4") for name in available()])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_image_has_exact_pins_for_every_python(name: str, python: Python) -> None:
    name = {"moorage/onnx:2.3": "moorage/onnx:1.22", "moorage/python:2.3": "moorage/python:3.13"}.get(name, name)
    image = resolve(name, python) or resolve(f"{EAST}/{name}", python)
    assert image is not None
    names = [line.partition("==")[0] for line in image.contents.requirements]
    assert all(line.count("==") == 1 for line in image.contents.requirements)
    assert len(names) == len(set(names))
    # The modules that are tried come from these packages: what is pinned is whole.
    assert {module.partition(".")[0] for module in image.preload} <= {_MODULES.get(name, name) for name in names}


_MODULES = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost"}


@pytest.mark.parametrize(
    ("uri", "python", "first", "said"),
    [
        (f"{EAST}/sagemaker-scikit-learn:1.2-1", (3, 11), "scikit-learn==1.2.2", None),
        (f"{EAST}/sagemaker-scikit-learn:1.2-1", (3, 12), "scikit-learn==1.3.2", "has scikit-learn 1.2, of which"),
        (f"{EAST}/sagemaker-scikit-learn:0.20.0", (3, 11), "scikit-learn==1.1.3", "no wheels for Python 3.11;"),
        (f"{EAST}/sagemaker-scikit-learn:1.4-2", (3, 14), "scikit-learn==1.7.2", "the nearest one, 1.7.2, stands in"),
        (f"{EAST}/sagemaker-xgboost:1.7-1", (3, 11), "xgboost-cpu==2.1.4", "has XGBoost 1.7, of which xgboost-cpu has"),
        (f"{EAST}/sagemaker-xgboost:3.0-5", (3, 11), "xgboost-cpu==3.0.5", None),
        (f"{EAST}/xgboost:1", (3, 11), "xgboost-cpu==2.1.4", "has XGBoost 0.72,"),
        (f"{DLC}/pytorch-inference:2.3.0-cpu-py311", (3, 12), "torch==2.3.1", None),
        (f"{DLC}/pytorch-inference:2.3-cpu-py311", (3, 13), "torch==2.5.1", "the nearest one, 2.5.1"),
        (f"{DLC}/pytorch-inference:2.99.0-cpu-py311", (3, 13), "torch==2.9.1", "the nearest one, 2.9.1"),
        (f"{DLC}/pytorch-inference:2.3.0-gpu-py311", (3, 12), "torch==2.3.1", "is one for GPUs"),
        (
            f"{DLC}/huggingface-pytorch-inference:1.13.1-transformers4.26.0-gpu-py39-cu117-ubuntu20.04",
            (3, 11),
            "transformers==4.28.1",
            "has transformers 4.26.0, of which",
        ),
        ("moorage/onnx", (3, 14), "onnxruntime==1.32.0", None),
        ("moorage/onnx:1.20.1", (3, 13), "onnxruntime==1.20.1", None),
        ("moorage/onnx:1.20", (3, 14), "onnxruntime==1.24.4", "has onnxruntime 1.20,"),
    ],
)
def test_the_same_minor_version_or_the_nearest_one_stands_in(
    uri: str, python: Python, first: str, said: str | None
) -> None:
    image = resolve(uri, python)
    assert image is not None
    assert image.contents.requirements[0] == first
    assert (image.contents.warning is None) if said is None else said in (image.contents.warning or "")


def test_plain_python_has_no_packages_and_says_when_it_is_another_one() -> None:
    same, other = resolve("moorage/python:3.12", (3, 12)), resolve("moorage/python:3.12", (3, 11))
    assert same is not None
    assert other is not None
    assert (same.contents.requirements, same.contents.warning) == ((), None)
    assert "is Python 3.12; Python 3.11, which runs Moorage, stands in" in (other.contents.warning or "")


@pytest.mark.parametrize(
    ("wanted", "given"),
    [("1.0", "1.2.5"), ("1.2", "1.2.5"), ("1.2.9", "1.2.5"), ("1.3", "1.10.0"), ("1.10", "1.10.0"), ("2.0", "1.10.0")],
)
def test_nearest_is_the_same_minor_one_else_the_next_newer_else_the_newest(wanted: str, given: str) -> None:
    assert pins.nearest(wanted, ("1.2.5", "1.10.0")) == given


def test_lists_show_names_that_build_understands() -> None:
    assert "sagemaker-scikit-learn:1.2-1-cpu-py3" in available()
    shown = resolve_shown("sagemaker-scikit-learn:1.2-1-cpu-py3")
    assert shown is not None
    assert shown.name == "sagemaker-scikit-learn:1.2-1-cpu-py3"
    assert resolve_shown("moorage/onnx") is not None


def test_what_there_is_of_a_repository_is_told_to_who_asks_for_another_version() -> None:
    said = what_there_is(f"{EAST}/sagemaker-xgboost:9.9-1")
    assert said is not None
    assert said.startswith("Built-in images of sagemaker-xgboost: 0.90-1, ")
    assert what_there_is("docker.io/library/nginx") is None
    assert what_there_is(f"{EAST}/churn:3") is None


def test_every_framework_has_a_toolkit_and_a_repository_of_its_own() -> None:
    assert set(TOOLKITS) == {"sklearn", "xgboost", "pytorch", "huggingface", "onnx", "python"}
    repositories = [repository for row in FRAMEWORKS for repository in row.repositories]
    assert len(repositories) == len(set(repositories))
    assert of_repository("tensorflow-inference") is None
