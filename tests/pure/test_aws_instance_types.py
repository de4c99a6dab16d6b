"""Every instance type of the model has its resources."""

import pytest

from moorage.aws.instance_types import InstanceType, instance_type
from moorage.aws.shapes import StringShape, load_service

SHAPE = load_service("sagemaker").shape("ProductionVariantInstanceType")
assert isinstance(SHAPE, StringShape)
ALL = [instance_type(name) for name in SHAPE.enum]
ACCELERATED = ("p", "g", "inf", "trn", "dl")


def test_every_type_is_plausible() -> None:
    implausible = [
        kind
        for kind in ALL
        if not (1 <= kind.vcpus <= 192 and 1 <= kind.memory_mib / 1024 / kind.vcpus <= 24 and kind.accelerators <= 16)
    ]
    assert implausible == []


def test_the_accelerated_families_and_no_others_have_accelerators() -> None:
    assert {kind.name for kind in ALL if kind.accelerators} == {
        kind.name for kind in ALL if kind.name.removeprefix("ml.").startswith(ACCELERATED)
    }
    assert all((kind.accelerators > 0) == (kind.accelerator_kind is not None) for kind in ALL)


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_gib", "accelerators"),
    [
        ("ml.t2.medium", 2, 4, 0),
        ("ml.m5.large", 2, 8, 0),
        ("ml.m5.xlarge", 4, 16, 0),
        ("ml.m4.10xlarge", 40, 160, 0),
        ("ml.c4.8xlarge", 36, 60, 0),
        ("ml.c5.9xlarge", 36, 72, 0),
        ("ml.c5d.18xlarge", 72, 144, 0),
        ("ml.r5.24xlarge", 96, 768, 0),
        ("ml.r6i.32xlarge", 128, 1024, 0),
        ("ml.m8g.medium", 1, 4, 0),
        ("ml.c8g.48xlarge", 192, 384, 0),
        ("ml.g4dn.16xlarge", 64, 256, 1),
        ("ml.g5.12xlarge", 48, 192, 4),
        ("ml.g6e.48xlarge", 192, 1536, 8),
        ("ml.g7e.12xlarge", 48, 512, 2),
        ("ml.p3.2xlarge", 8, 61, 1),
        ("ml.p4d.24xlarge", 96, 1152, 8),
        ("ml.p5.48xlarge", 192, 2048, 8),
        ("ml.inf1.6xlarge", 24, 48, 4),
        ("ml.inf2.24xlarge", 96, 384, 6),
        ("ml.trn1.32xlarge", 128, 512, 16),
        ("ml.p6e-gb200.36xlarge", 144, 960, 4),
    ],
)
def test_types_have_the_resources_of_ec2s_tables(name: str, vcpus: int, memory_gib: int, accelerators: int) -> None:
    kind = instance_type(name)
    assert (kind.vcpus, kind.memory_mib, kind.accelerators) == (vcpus, memory_gib * 1024, accelerators)


def test_the_whole_of_one() -> None:
    assert instance_type("ml.p3.8xlarge") == InstanceType("ml.p3.8xlarge", 32, 249_856, 4, "NVIDIA V100", 0)


def test_each_of_the_277_types_of_the_model_has_an_entry_with_all_of_it() -> None:
    assert len(ALL) == len({kind.name for kind in ALL}) == 277
    for kind in ALL:
        assert kind.vcpus > 0
        assert kind.memory_mib > 0
        assert (kind.accelerators > 0) == bool(kind.accelerator_kind)
        assert kind.local_storage_gb >= 0


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("ml.m5.24xlarge", 0),
        ("ml.m5d.24xlarge", 3600),
        ("ml.c5d.large", 50),
        ("ml.g4dn.2xlarge", 225),
        ("ml.g6.12xlarge", 3760),
        ("ml.r7gd.medium", 59),
        ("ml.p4de.24xlarge", 8000),
        ("ml.p3.16xlarge", 0),
        ("ml.inf2.48xlarge", 0),
        ("ml.trn1.2xlarge", 474),
        ("ml.p5.48xlarge", 30400),
    ],
)
def test_disks_of_their_own_are_those_of_ec2s_tables(name: str, gigabytes: int) -> None:
    assert instance_type(name).local_storage_gb == gigabytes


@pytest.mark.parametrize("name", ["m5.large", "ml.m5", "ml.m5.huge", "ml.zz.large", "local", ""])
def test_an_unknown_type_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        instance_type(name)
