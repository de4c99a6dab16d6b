"""Amazon resource names of SageMaker's resources (control-plane.md section 4.1)."""

import re
from dataclasses import dataclass

_ARN = re.compile(r"arn:(aws[a-z-]*):sagemaker:([a-z0-9-]*):([0-9]{12}):([a-z-]+)/(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Arn:
    """The parts of a resource's name."""

    partition: str
    region: str
    account: str
    kind: str
    """``model``, ``endpoint-config``, ``endpoint``, ..."""
    name: str
    """In the case it came in; two ARNs that differ only in case name the same resource."""

    def __str__(self) -> str:
        return f"arn:{self.partition}:sagemaker:{self.region}:{self.account}:{self.kind}/{self.name}"


def make_arn(region: str, account: str, kind: str, name: str) -> str:
    """Make the ARN of a resource; the case of its name is kept."""
    return str(Arn(partition_of(region), region, account, kind, name))


def parse_arn(text: str) -> Arn | None:
    """Read an ARN; None when it is not one of a SageMaker resource."""
    found = _ARN.fullmatch(text)
    return Arn(*found.groups()) if found else None


def partition_of(region: str) -> str:
    """Give the partition that a region lies in."""
    if region.startswith("cn-"):
        return "aws-cn"
    if region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"
