"""What the operations on endpoints have in common: finding one, its copy of a configuration, and its quotas."""

from dataclasses import replace

from sqlalchemy import Connection

from moorage.aws.errors import ClientFault, validation_exception
from moorage.control.operations.answers import could_not_find, endpoint_arn, in_progress
from moorage.control.operations.call import Call, Members
from moorage.control.operations.documents import find_document
from moorage.control.operations.packaged import with_packages
from moorage.control.operations.reservations import check_reservation
from moorage.control.planning import quotas
from moorage.control.planning.status import Event, allows
from moorage.control.rules import check, promises, referenced_models, variants
from moorage.control.rules.models import containers_of, data_of, execution_of, name_of
from moorage.state import endpoints, instances
from moorage.state.records import (
    Container,
    DeployedVariant,
    Document,
    EndpointKey,
    EndpointRecord,
    EndpointStatus,
    Kind,
    Pool,
)


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
    """Copy a configuration's variants, the shadow last, and their models; deleting those never disturbs an endpoint.

    What was possible when the configuration was made may no longer be: promises, keys and reservations are looked at
    again.
    """
    members = config.members
    check_promises(connection, call, members)
    production = [_copy(connection, call, variant, members) for variant in members["ProductionVariants"]]
    shadows = [_copy(connection, call, variant, members) for variant in members.get("ShadowProductionVariants", ())]
    return (*production, *(replace(variant, shadow=True) for variant in shadows))


def _copy(connection: Connection, call: Call, variant: Members, config: Members) -> DeployedVariant:
    own, *pools = _copy_models(connection, call, variant, config)
    return DeployedVariant(
        name=variant["VariantName"],
        model_name=own.model_name,
        instance_type=pools[0].instance_type if pools else own.instance_type,
        desired_count=variant["InitialInstanceCount"],
        desired_weight=variant.get("InitialVariantWeight", 1.0),
        containers=own.containers,
        routing=variant.get("RoutingConfig"),
        startup_timeout_seconds=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
        download_timeout_seconds=variant.get("ModelDataDownloadTimeoutInSeconds"),
        network_isolation=own.network_isolation,
        volume_gib=variant.get("VolumeSizeInGB"),
        kms_key=_find_key(call, config),
        core_dumps=_core_dumps(call, variant.get("CoreDumpConfig")),
        shell_access=variant.get("EnableSSMAccess", False),
        machine_image=variant.get("InferenceAmiVersion"),
        pools=tuple(pools),
        provision_timeout_seconds=variant.get("VariantInstanceProvisionTimeoutInSeconds"),
        reservation=_reservation(connection, call, variant),
        execution=own.execution,
    )


def _copy_models(connection: Connection, call: Call, variant: Members, config: Members) -> list[Pool]:
    """Copy a variant's own model, and then what each of its pools serves, that of the highest priority first."""
    pools = sorted(variant.get("InstancePools", ()), key=lambda pool: int(pool["Priority"]))
    wanted = [
        (variant.get("InstanceType", ""), variant["ModelName"]),
        *((pool["InstanceType"], pool.get("ModelNameOverride", variant["ModelName"])) for pool in pools),
    ]
    return [_copy_model(connection, call, kind, name, config) for kind, name in wanted]


def _copy_model(connection: Connection, call: Call, instance_type: str, name: str, config: Members) -> Pool:
    model = find_document(connection, call.resource(Kind.MODEL, name))
    given = containers_of(with_packages(connection, call, model.members))
    copied = tuple(_copy_container(container, name_of(given, at)) for at, container in enumerate(given))
    isolated = _is_isolated(model.members) or _is_isolated(config)
    return Pool(instance_type, model.name, copied, isolated, execution_of(model.members))


def _copy_container(container: Members, name: str) -> Container:
    return Container(
        name=name,
        image=container["Image"],
        environment=container.get("Environment", {}),
        model=data_of(container),
        additional=tuple(container.get("AdditionalModelDataSources", ())),
        mode=container.get("Mode", "SingleModel"),
        caches_models=container.get("MultiModelConfig", {}).get("ModelCacheSetting") != "Disabled",
    )


def _core_dumps(call: Call, config: Members | None) -> Members | None:
    if config is None or "KmsKeyId" not in config:
        return config
    return {**config, "KmsKeyId": _find_key(call, config, "CoreDumpConfig.")}


def _reservation(connection: Connection, call: Call, variant: Members) -> Members | None:
    """Check the reservation that a variant names, and give its configuration with the ARN as the reservation has it."""
    config: Members | None = variant.get("CapacityReservationConfig")
    if not config:
        return None
    named = (variant["VariantName"], variants.types_of(variant), config["MlReservationArn"])
    return {**config, "MlReservationArn": check_reservation(connection, call, *named).arn}


def _find_key(call: Call, members: Members, path: str = "") -> str | None:
    """Give the ARN of the KmsKeyId of some members, which does not change when its alias comes to mean another key."""
    if (key := members.get("KmsKeyId")) is None:
        return None
    try:
        return call.services.find_key(call.account, call.region, key)
    except ClientFault as fault:
        raise validation_exception(f"{path}KmsKeyId: {fault.message}") from fault


def check_promises(connection: Connection, call: Call, config: Members) -> None:
    """Refuse a configuration that asks for what this machine cannot keep, or for keys or capacity that are not there.

    The models that it refers to must exist.
    """
    names = variants.models_of(config)
    found = {name: find_document(connection, call.resource(Kind.MODEL, name)).members for name in names}
    models = {name: with_packages(connection, call, members) for name, members in found.items()}
    check([*promises.rules_for(call.services.node.refuses, models), *referenced_models.always_for(models)], config)
    _find_key(call, config)
    _find_key(call, config.get("DataCaptureConfig", {}), "DataCaptureConfig.")
    for variant in variants.variants_of(config):
        _core_dumps(call, variant.get("CoreDumpConfig"))
        _reservation(connection, call, variant)


def _is_isolated(members: Members) -> bool:
    return bool(members.get("EnableNetworkIsolation"))


def check_quotas(connection: Connection, call: Call, more: quotas.Usage) -> None:
    """Refuse instances beyond the account's quotas in this region; nothing has been done yet."""
    if not more.total:
        return
    recorded = endpoints.read_all(connection, call.account, call.region)
    used = quotas.usage_of_all(recorded, instances.read_all(connection))
    if (violation := quotas.exceeded(call.services.quotas, used, more)) is not None:
        raise ClientFault("ResourceLimitExceeded", violation)
