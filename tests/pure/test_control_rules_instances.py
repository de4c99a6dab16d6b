"""Rules about instance types, each by itself."""

from typing import Any

import pytest
from tests.support.configs import host, of, pooled, variant

from moorage.aws.shapes import StringShape, load_service
from moorage.control.rules import Rule
from moorage.control.rules import instances as rules

GPU_IMAGE = "al2-ami-sagemaker-inference-gpu-3-1"
NEURON_IMAGE = "al2-ami-sagemaker-inference-neuron-2"
LAYOUT = {"AcceleratorPartitionTypes": ["mig-3g.40gb"]}

CASES: list[tuple[Rule, dict[str, Any], str | None]] = [
    (rules.key_has_volumes, of(KmsKeyId="k"), None),
    (rules.key_has_volumes, of(variant(InstanceType="ml.m5d.large")), None),
    (
        rules.key_has_volumes,
        of(variant(InstanceType="ml.m5d.large"), KmsKeyId="k"),
        "KmsKeyId is not supported for instance types with local storage: ml.m5d.large",
    ),
    (
        rules.key_has_volumes,
        of(pooled({}, {"InstanceType": "ml.g5.xlarge"}), KmsKeyId="k"),
        "KmsKeyId is not supported for instance types with local storage: ml.g5.xlarge",
    ),
    (rules.size_has_volumes, of(variant(VolumeSizeInGB=10)), None),
    (
        rules.size_has_volumes,
        of(variant(VolumeSizeInGB=10, InstanceType="ml.g4dn.xlarge")),
        "VolumeSizeInGB is not supported for instance types with local storage: ml.g4dn.xlarge",
    ),
    (rules.machine_image_fits, of(), None),
    (rules.machine_image_fits, of(variant(InstanceType="ml.g5.xlarge", InferenceAmiVersion=GPU_IMAGE)), None),
    (rules.machine_image_fits, of(variant(InstanceType="ml.inf2.xlarge", InferenceAmiVersion=NEURON_IMAGE)), None),
    (
        rules.machine_image_fits,
        of(variant(InferenceAmiVersion=GPU_IMAGE)),
        f"InferenceAmiVersion {GPU_IMAGE} is not supported for the instance type ml.m5.large.",
    ),
    (
        rules.machine_image_fits,
        of(variant(InstanceType="ml.inf1.xlarge", InferenceAmiVersion=NEURON_IMAGE)),
        f"InferenceAmiVersion {NEURON_IMAGE} is not supported for the instance type ml.inf1.xlarge.",
    ),
    (
        rules.partitions_have_a_gpu,
        of(host(InstanceType="ml.p4d.24xlarge", AcceleratorPartitionLayouts=[LAYOUT])),
        None,
    ),
    (
        rules.partitions_have_a_gpu,
        of(host(AcceleratorPartitionLayouts=[LAYOUT])),
        "AcceleratorPartitionLayouts is not supported for the instance type ml.m5.large.",
    ),
    (
        rules.partitions_have_a_gpu,
        of(host(InstanceType="ml.p4d.24xlarge", AcceleratorPartitionLayouts=[LAYOUT, LAYOUT])),
        "AcceleratorPartitionLayouts must have a single layout, which is applied to every accelerator.",
    ),
    (
        rules.partitions_have_a_gpu,
        of(variant(InstanceType="ml.p4d.24xlarge", AcceleratorPartitionLayouts=[LAYOUT])),
        "AcceleratorPartitionLayouts is only supported for inference component endpoints.",
    ),
]


@pytest.mark.parametrize(("rule", "request_", "text"), CASES)
def test_rule(rule: Rule, request_: dict[str, Any], text: str | None) -> None:
    assert rule(request_) == text


def test_every_rule_is_kept_by_one_case_and_broken_by_another() -> None:
    kept = {rule for rule, _, text in CASES if text is None}
    broken = {rule for rule, _, text in CASES if text is not None}
    assert kept == broken == set(rules.RULES)


def test_families_with_local_storage_are_those_of_the_specification() -> None:
    shape = load_service("sagemaker").shape("ProductionVariantInstanceType")
    assert isinstance(shape, StringShape)
    families = {name.split(".")[1] for name in shape.enum if rules.has_local_storage(name)}
    assert families >= {"m5d", "c5d", "r5d", "g4dn", "p4d", "p4de", "m6gd", "c6gd", "r6gd", "r7gd", "dl1", "g5", "g6"}
    assert families >= {"p5", "p5e", "trn1", "trn1n", "g7e", "p6-b200", "p6-b300", "p6e-gb200", "trn2"}
    assert not families & {"m5", "c5", "r5", "t2", "m4", "p2", "p3", "inf1", "inf2", "m7i", "c7g"}


def test_every_instance_type_of_the_model_can_be_asked_for_with_every_member() -> None:
    shape = load_service("sagemaker").shape("ProductionVariantInstanceType")
    assert isinstance(shape, StringShape)
    more: dict[str, Any] = {
        "InferenceAmiVersion": GPU_IMAGE,
        "AcceleratorPartitionLayouts": [LAYOUT],
        "VolumeSizeInGB": 1,
    }
    requests = [of(host(InstanceType=name, **more)) for name in shape.enum]
    texts = [rule(request) for rule in rules.RULES for request in requests]
    assert len(texts) == len(shape.enum) * len(rules.RULES)
