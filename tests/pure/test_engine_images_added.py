"""Which images a name stands for that a Python was added under."""

import pytest

from moorage.engine.images.added import stands_for

DLC = "763104351884.dkr.ecr.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("pytorch-inference", f"{DLC}/pytorch-inference:2.3.0-cpu-py311"),
        ("pytorch-inference", f"{DLC}/pytorch-inference@sha256:{'0' * 64}"),
        ("pytorch-inference", f"{DLC}/pytorch-inference"),
        ("pytorch-inference:2.3", f"{DLC}/pytorch-inference:2.3.0-cpu-py311"),
        ("pytorch-inference:2.3.0-cpu-py311", f"{DLC}/pytorch-inference:2.3.0-cpu-py311"),
        (f"{DLC}/pytorch-inference", f"{DLC}/pytorch-inference:2.3.0-cpu-py311"),
        (f"{DLC}/pytorch-inference:2.3.0-cpu-py311", f"{DLC}/pytorch-inference:2.3.0-cpu-py311"),
        (f"{DLC}/a@sha256:{'0' * 64}", f"{DLC}/a@sha256:{'0' * 64}"),
        ("team/churn", f"{DLC}/team/churn:7"),
        ("my/env", "my/env"),
        ("my/env", "my/env:3"),
        ("my/env:latest", "my/env"),
        ("moorage/onnx", "moorage/onnx:1.20"),
    ],
)
def test_a_name_stands_for_what_begins_with_it(name: str, image: str) -> None:
    assert stands_for(name, image)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("pytorch-inference", f"{DLC}/pytorch-inference-graviton:2.3.0-cpu-py311"),
        ("pytorch-inference:2.3", f"{DLC}/pytorch-inference:2.30.0-cpu-py311"),
        ("pytorch-inference:2.3", f"{DLC}/pytorch-inference:2.4.0-cpu-py311"),
        ("pytorch-inference:2.3", f"{DLC}/pytorch-inference@sha256:{'0' * 64}"),
        (f"{DLC}/pytorch-inference", "000000000000.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.3.0-cpu-py311"),
        (f"{DLC}/a@sha256:{'0' * 64}", f"{DLC}/a@sha256:{'1' * 64}"),
        ("my/env:1", "my/env"),
        ("my/env", "my/environment"),
        ("my/env", "other/my/env"),
        ("my/env", "No Name"),
        ("No Name", "my/env"),
    ],
)
def test_a_name_stands_for_nothing_else(name: str, image: str) -> None:
    assert not stands_for(name, image)
