"""What the instance types are: vCPUs, memory and accelerators, from EC2's public tables.

Nearly all families follow one rule: the size says the vCPUs (``large`` 2, ``xlarge`` 4, ``4xlarge`` 16), the family
how much memory comes with each. What does not follow it stands in the tables below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

_MIB = 1024

_MEMORY_GIB_PER_VCPU: Mapping[str, float] = {
    **dict.fromkeys(("c5", "c5d", "c6g", "c6gd", "c6gn", "c6i", "c6in", "c7g", "c7i", "c8g", "inf1"), 2.0),
    **dict.fromkeys(("m4", "m5", "m5d", "m6g", "m6gd", "m6i", "m7i", "m8g", "t2"), 4.0),
    **dict.fromkeys(("g4dn", "g5", "g6", "g7", "inf2", "trn1", "trn1n"), 4.0),
    **dict.fromkeys(("r5", "r5d", "r6g", "r6gd", "r6i", "r7gd", "r7i", "r8g", "g6e", "g7e", "dl1"), 8.0),
    **dict.fromkeys(("p4d", "p4de"), 12.0),
}

_VCPUS_AND_MEMORY_GIB: Mapping[str, tuple[int, float]] = {
    "t2.medium": (2, 4),
    "c4.large": (2, 3.75),
    "c4.xlarge": (4, 7.5),
    "c4.2xlarge": (8, 15),
    "c4.4xlarge": (16, 30),
    "c4.8xlarge": (36, 60),
    "p2.xlarge": (4, 61),
    "p2.8xlarge": (32, 488),
    "p2.16xlarge": (64, 732),
    "p3.2xlarge": (8, 61),
    "p3.8xlarge": (32, 244),
    "p3.16xlarge": (64, 488),
    "p5.4xlarge": (16, 256),
    "p5.48xlarge": (192, 2048),
    "p5e.48xlarge": (192, 2048),
    "p5en.48xlarge": (192, 2048),
    "p6-b200.48xlarge": (192, 2048),
    "p6-b300.48xlarge": (192, 4096),
    "p6e-gb200.36xlarge": (144, 960),
    "trn2.48xlarge": (192, 2048),
    "g7e.12xlarge": (48, 512),
    "g7e.24xlarge": (96, 1024),
    "g7e.48xlarge": (192, 2048),
}

_G5_COUNTS = {
    "xlarge": 1,
    "2xlarge": 1,
    "4xlarge": 1,
    "8xlarge": 1,
    "12xlarge": 4,
    "16xlarge": 1,
    "24xlarge": 4,
    "48xlarge": 8,
}
_G7_COUNTS = {"2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 2, "24xlarge": 4, "48xlarge": 8}

_ACCELERATORS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "dl1": ("Habana Gaudi", {"24xlarge": 8}),
    "g4dn": ("NVIDIA T4", _G5_COUNTS),
    "g5": ("NVIDIA A10G", _G5_COUNTS),
    "g6": ("NVIDIA L4", _G5_COUNTS),
    "g6e": ("NVIDIA L40S", _G5_COUNTS),
    "g7": ("NVIDIA RTX PRO 4500", _G7_COUNTS),
    "g7e": ("NVIDIA RTX PRO 6000", _G7_COUNTS),
    "inf1": ("AWS Inferentia", {"xlarge": 1, "2xlarge": 1, "6xlarge": 4, "24xlarge": 16}),
    "inf2": ("AWS Inferentia2", {"xlarge": 1, "8xlarge": 1, "24xlarge": 6, "48xlarge": 12}),
    "p2": ("NVIDIA K80", {"xlarge": 1, "8xlarge": 8, "16xlarge": 16}),
    "p3": ("NVIDIA V100", {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8}),
    "p4d": ("NVIDIA A100 40GB", {"24xlarge": 8}),
    "p4de": ("NVIDIA A100 80GB", {"24xlarge": 8}),
    "p5": ("NVIDIA H100", {"4xlarge": 1, "48xlarge": 8}),
    "p5e": ("NVIDIA H200", {"48xlarge": 8}),
    "p5en": ("NVIDIA H200", {"48xlarge": 8}),
    "p6-b200": ("NVIDIA B200", {"48xlarge": 8}),
    "p6-b300": ("NVIDIA B300", {"48xlarge": 8}),
    "p6e-gb200": ("NVIDIA GB200", {"36xlarge": 4}),
    "trn1": ("AWS Trainium", {"2xlarge": 1, "32xlarge": 16}),
    "trn1n": ("AWS Trainium", {"32xlarge": 16}),
    "trn2": ("AWS Trainium2", {"48xlarge": 16}),
}


@dataclass(frozen=True, slots=True)
class InstanceType:
    """The resources of one instance."""

    name: str
    """As the API spells it: ``ml.m5.xlarge``."""
    vcpus: int
    memory_mib: int
    accelerators: int
    """How many accelerators it has; 0 for none."""
    accelerator_kind: str | None
    """Maker and model of them, such as ``NVIDIA A10G``."""


@cache
def instance_type(name: str) -> InstanceType:
    """Give an instance type by its name in the API; raises KeyError for one that EC2's tables here do not have."""
    prefix, _, kind = name.partition(".")
    family, _, size = kind.partition(".")
    if prefix != "ml":
        raise KeyError(name)
    exact = _VCPUS_AND_MEMORY_GIB.get(kind)
    if exact is None:
        vcpus = _vcpus(size)
        exact = (vcpus, vcpus * _MEMORY_GIB_PER_VCPU[family])
    accelerator, counts = _ACCELERATORS.get(family, (None, {}))
    return InstanceType(
        name=name,
        vcpus=exact[0],
        memory_mib=round(exact[1] * _MIB),
        accelerators=counts[size] if accelerator else 0,
        accelerator_kind=accelerator,
    )


def _vcpus(size: str) -> int:
    if size in {"medium", "large", "xlarge"}:
        return {"medium": 1, "large": 2, "xlarge": 4}[size]
    multiple, _, rest = size.partition("xlarge")
    if rest or not multiple.isdecimal():
        raise KeyError(size)
    return 4 * int(multiple)
