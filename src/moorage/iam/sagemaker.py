"""What one may have to be allowed for an operation of SageMaker (AWS's service authorization reference).

Each operation needs ``sagemaker:<Operation>`` on each resource that it names; tags given at creation need
``sagemaker:AddTags`` on what is created, a role that is handed over needs ``iam:PassRole`` (control-plane.md section
1.4). Names in these ARNs are in lower case, as AWS's texts show them (data-plane.md section 1.6); policies may have
them in either.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from moorage.aws.arns import make_arn, parse_arn
from moorage.iam.context import request_tags, tag_keys
from moorage.iam.patterns import Context

_MODEL = ("model", "ModelName")
_CONFIG = ("endpoint-config", "EndpointConfigName")
_ENDPOINT = ("endpoint", "EndpointName")
_PACKAGE = ("model-package", "ModelPackageName")
_GROUP = ("model-package-group", "ModelPackageGroupName")

RESOURCES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "CreateModel": (_MODEL,),
    "DescribeModel": (_MODEL,),
    "DeleteModel": (_MODEL,),
    "ListModels": (),
    "CreateModelPackage": (_PACKAGE, _GROUP),
    "DescribeModelPackage": (_PACKAGE,),
    "UpdateModelPackage": (("model-package", "ModelPackageArn"),),
    "DeleteModelPackage": (_PACKAGE,),
    "ListModelPackages": (),
    "CreateModelPackageGroup": (_GROUP,),
    "DescribeModelPackageGroup": (_GROUP,),
    "DeleteModelPackageGroup": (_GROUP,),
    "ListModelPackageGroups": (),
    "CreateEndpointConfig": (_CONFIG,),
    "DescribeEndpointConfig": (_CONFIG,),
    "DeleteEndpointConfig": (_CONFIG,),
    "ListEndpointConfigs": (),
    "CreateEndpoint": (_ENDPOINT, _CONFIG),
    "DescribeEndpoint": (_ENDPOINT,),
    "ListEndpoints": (),
    "UpdateEndpoint": (_ENDPOINT, _CONFIG),
    "UpdateEndpointWeightsAndCapacities": (_ENDPOINT,),
    "DeleteEndpoint": (_ENDPOINT,),
    "AddTags": (),
    "ListTags": (),
    "DeleteTags": (),
}
"""By operation, the resources that it may name: kind, and the member that has the name or the ARN."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that must be allowed."""

    action: str
    resource: str
    context: Context
    tagged: tuple[str, str] | None = None
    """Kind and name of the resource whose tags count; None for one that is only being made."""


def needs(operation: str, members: Mapping[str, Any], account: str, region: str) -> list[Need]:
    """Give all that must be allowed for an operation, in the order in which it is asked."""
    action, context = f"sagemaker:{operation}", _context_of(operation, members, account, region)
    if "ResourceArn" in members:
        return [_of_arn(action, members["ResourceArn"], context)]
    found = []
    for kind, member in RESOURCES[operation]:
        if member not in members:
            continue
        name = _name_in(members[member])
        is_new = operation == f"Create{member.removesuffix('Name')}"
        tagged = None if is_new else (kind, name)
        found.append(Need(action, resource_arn(region, account, kind, name), context, tagged))
        if is_new and members.get("Tags"):
            tagging = {**context, "sagemaker:taggingaction": (operation,)}
            found.append(Need("sagemaker:AddTags", resource_arn(region, account, kind, name), tagging))
    if "ExecutionRoleArn" in members:
        passed = {**context, "iam:passedtoservice": ("sagemaker.amazonaws.com",)}
        found.append(Need("iam:PassRole", members["ExecutionRoleArn"], passed))
    return found or [Need(action, "*", context)]


def _name_in(text: str) -> str:
    """Give the name of a resource that is named by it or by its ARN."""
    arn = parse_arn(text)
    return text if arn is None else arn.name


def resource_arn(region: str, account: str, kind: str, name: str) -> str:
    """Make the ARN that policies are asked about."""
    return make_arn(region, account, kind, name.lower())


def _of_arn(action: str, text: str, context: Context) -> Need:
    arn = parse_arn(text)
    if arn is None:
        return Need(action, text, context)
    lowered = f"arn:{arn.partition}:sagemaker:{arn.region}:{arn.account}:{arn.kind}/{arn.name.lower()}"
    return Need(action, lowered, context, (arn.kind, arn.name))


def _context_of(operation: str, members: Mapping[str, Any], account: str, region: str) -> Context:
    context = dict(request_tags({tag["Key"]: tag["Value"] for tag in members.get("Tags", ())}))
    context.update(tag_keys(members.get("TagKeys", ())))
    if operation in {"CreateModel", "CreateEndpointConfig"}:
        isolated = members.get("EnableNetworkIsolation", False)
        context["sagemaker:networkisolation"] = ("true" if isolated else "false",)
        vpc = members.get("VpcConfig", {})
        context["sagemaker:vpcsubnets"] = tuple(vpc.get("Subnets", ()))
        context["sagemaker:vpcsecuritygroupids"] = tuple(vpc.get("SecurityGroupIds", ()))
    if operation == "CreateEndpointConfig":
        context.update(_of_variants(members, account, region))
        if "KmsKeyId" in members:
            context["sagemaker:volumekmskey"] = (members["KmsKeyId"],)
    return context


def _of_variants(members: Mapping[str, Any], account: str, region: str) -> Context:
    variants = list(_variants(members))
    serverless = [variant["ServerlessConfig"] for variant in variants if "ServerlessConfig" in variant]
    pools = [pool for variant in variants for pool in variant.get("InstancePools", ())]
    models = (*_each(variants, "ModelName"), *_each(pools, "ModelNameOverride"))
    return {
        "sagemaker:instancetypes": (*_each(variants, "InstanceType"), *_each(pools, "InstanceType")),
        "sagemaker:acceleratortypes": _each(variants, "AcceleratorType"),
        "sagemaker:modelarn": tuple(resource_arn(region, account, "model", name) for name in models),
        "sagemaker:serverlessmaxconcurrency": _each(serverless, "MaxConcurrency"),
        "sagemaker:serverlessmemorysize": _each(serverless, "MemorySizeInMB"),
    }


def _variants(members: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from members.get("ProductionVariants", ())
    yield from members.get("ShadowProductionVariants", ())


def _each(entries: list[Mapping[str, Any]], member: str) -> tuple[str, ...]:
    return tuple(str(entry[member]) for entry in entries if member in entry)
