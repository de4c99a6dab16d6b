"""What the operations on endpoints have in common: finding one, its copy of a configuration, and its quotas."""

from dataclasses import replace

from sqlalchemy import Connection

from moorage.aws.errors import ClientFault, validation_exception
from moorage.control.operations.answers import could_not_find, endpoint_arn, in_progress
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import find_document
from moorage.control.planning import quotas
from moorage.control.planning.status import Event, allows
from moorage.control.rules.models import containers_of
from moorage.state import endpoints
from moorage.state.records import (
    Container,
    DeployedVariant,
    Document,
    EndpointKey,
    EndpointRecord,
    EndpointStatus,
    Kind,
)

_PRIMARY = "primary"
"""Name of the only container of a model in AWS's texts."""


def find_endpoint(connection: Connection, call: Call, key: EndpointKey) -> EndpointRecord:
    """Find an endpoint, or say that there is none."""
    if (endpoint := endpoints.find(connection, key)) is None:
        raise could_not_find(call.resource(Kind.ENDPOINT, key.name))
    return endpoint


def find_config(connection: Connection, call: Call, name: str) -> Document:
    """Find an endpoint configuration, or say that there is none."""
    return find_document(connection, call.resource(Kind.ENDPOINT_CONFIG, name))


def check_can_change(endpoint: EndpointRecord) -> None:
    """Refuse to change what is being changed, made or deleted, and what has failed (section 6.1)."""
    if endpoint.status == EndpointStatus.FAILED:
        raise validation_exception(
            f'Cannot update endpoint "{endpoint_arn(endpoint.key)}" because its status is Failed: '
            "it can only be deleted."
        )
    if not allows(endpoint.status, Event.UPDATE_REQUESTED):
        raise in_progress(endpoint.key)


def copy_variants(connection: Connection, call: Call, config: Document) -> tuple[DeployedVariant, ...]:
    """Copy a configuration's variants, the shadow last, and their models; deleting those never disturbs an endpoint."""
    members = config.members
    production = [_copy(connection, call, variant, members) for variant in members["ProductionVariants"]]
    shadows = [_copy(connection, call, variant, members) for variant in members.get("ShadowProductionVariants", ())]
    return (*production, *(replace(variant, shadow=True) for variant in shadows))


def _copy(connection: Connection, call: Call, variant: Members, config: Members) -> DeployedVariant:
    model = find_document(connection, call.resource(Kind.MODEL, variant["ModelName"]))
    (container,) = containers_of(model.members)
    return DeployedVariant(
        name=variant["VariantName"],
        model_name=model.name,
        instance_type=variant["InstanceType"],
        desired_count=variant["InitialInstanceCount"],
        desired_weight=variant.get("InitialVariantWeight", 1.0),
        containers=(
            Container(
                name=_PRIMARY,
                image=container["Image"],
                environment=container.get("Environment", {}),
                model_data_url=container.get("ModelDataUrl"),
            ),
        ),
        routing=variant.get("RoutingConfig"),
        startup_timeout_seconds=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        download_timeout_seconds=variant.get("ModelDataDownloadTimeoutInSeconds"),
        network_isolation=_is_isolated(model.members) or _is_isolated(config),
        volume_gib=variant.get("VolumeSizeInGB"),
        kms_key=config.get("KmsKeyId"),
        core_dumps=variant.get("CoreDumpConfig"),
        shell_access=variant.get("EnableSSMAccess", False),
        machine_image=variant.get("InferenceAmiVersion"),
    )


def _is_isolated(members: Members) -> bool:
    return bool(members.get("EnableNetworkIsolation"))


def check_quotas(connection: Connection, call: Call, more: quotas.Usage) -> None:
    """Refuse instances beyond the account's quotas in this region; nothing has been done yet."""
    if not more:
        return
    used = quotas.usage_of_all(endpoints.read_all(connection, call.account, call.region))
    if (violation := quotas.exceeded(call.services.quotas, used, more)) is not None:
        raise ClientFault("ResourceLimitExceeded", violation)
