"""What the instance types are: vCPUs, memory, accelerators and disks of their own, from EC2's public tables.

Nearly all families follow one rule: the size says the vCPUs (``large`` 2, ``xlarge`` 4, ``4xlarge`` 16), the family
how much memory comes with each. What does not follow it stands in the tables below.

Source: DescribeInstanceTypes of EC2 as the Karpenter provider for AWS publishes it (its reference page of instance
types of August 2026, against which all of 269 types were compared); for what it leaves out (p2, p3, dl1, p6e-gb200)
EC2's user guide. Local storage is what EC2 calls instance store volumes, the sum of all of an instance.
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

_GD = {
    "medium": 59,
    "large": 118,
    "xlarge": 237,
    "2xlarge": 474,
    "4xlarge": 950,
    "8xlarge": 1900,
    "12xlarge": 2850,
    "16xlarge": 3800,
}
_5D = {"large": 75, "xlarge": 150, "2xlarge": 300, "4xlarge": 600, "12xlarge": 1800, "24xlarge": 3600}
_P4D, _P5E = {"24xlarge": 8000}, {"48xlarge": 30400}
_G5_STORAGE = {
    "xlarge": 250,
    "2xlarge": 450,
    "4xlarge": 600,
    "8xlarge": 900,
    "12xlarge": 3800,
    "16xlarge": 1900,
    "24xlarge": 3800,
    "48xlarge": 7600,
}

_LOCAL_STORAGE_GB: Mapping[str, Mapping[str, int]] = {
    **dict.fromkeys(("c6gd", "m6gd", "r6gd", "r7gd"), _GD),
    **dict.fromkeys(("m5d", "r5d"), _5D),
    "c5d": {"large": 50, "xlarge": 100, "2xlarge": 200, "4xlarge": 400, "9xlarge": 900, "18xlarge": 1800},
    "dl1": {"24xlarge": 4000},
    "g4dn": {"xlarge": 125, "2xlarge": 225, "4xlarge": 225, "8xlarge": 900, "12xlarge": 900, "16xlarge": 900},
    "g5": _G5_STORAGE,
    "g6": {**_G5_STORAGE, "12xlarge": 3760, "16xlarge": 1880, "24xlarge": 3760, "48xlarge": 7520},
    "g6e": _G5_STORAGE,
    "g7": {"2xlarge": 440, "4xlarge": 875, "8xlarge": 930, "12xlarge": 1900, "24xlarge": 3800, "48xlarge": 7600},
    "g7e": {"2xlarge": 1900, "4xlarge": 1900, "8xlarge": 1900, "12xlarge": 3800, "24xlarge": 7600, "48xlarge": 15200},
    **dict.fromkeys(("p4d", "p4de"), _P4D),
    "p5": {"4xlarge": 3800, "48xlarge": 30400},
    **dict.fromkeys(("p5e", "p5en", "p6-b200", "p6-b300"), _P5E),
    "p6e-gb200": {"36xlarge": 22500},
    "trn1": {"2xlarge": 474, "32xlarge": 7600},
    "trn1n": {"32xlarge": 7600},
    "trn2": {"48xlarge": 7600},
}
"""By family and size; families that are not here keep their data on volumes."""


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
    local_storage_gb: int
    """All its own disks together, in 10^9 bytes; 0: it keeps its data on a volume."""


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
        local_storage_gb=_LOCAL_STORAGE_GB[family][size] if family in _LOCAL_STORAGE_GB else 0,
    )


def _vcpus(size: str) -> int:
    if size in {"medium", "large", "xlarge"}:
        return {"medium": 1, "large": 2, "xlarge": 4}[size]
    multiple, _, rest = size.partition("xlarge")
    if rest or not multiple.isdecimal():
        raise KeyError(size)
    return 4 * int(multiple)
