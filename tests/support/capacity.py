"""Endpoints on a small machine of which no more is used than there is: 4 vCPUs, 16 GiB of memory, no GPU."""

from collections.abc import Mapping
from typing import Any

from moorage.control.planning.placement import Resources, sum_of
from moorage.engine.contract import InstanceSpec
from moorage.state import events
from moorage.testing.builders import IMAGE
from moorage.testing.fake_node import Script, Scripts
from moorage.testing.world import ControlWorld

LARGE, XLARGE = "ml.m5.large", "ml.m5.xlarge"
"""Half of the machine, and all of it."""


async def create(world: ControlWorld, name: str, count: int = 1, kind: str | None = LARGE, **members: Any) -> None:
    """Make an endpoint of one variant, with everything of its own name; it is not waited for."""
    await configure(world, name, count, kind, **members)
    await world.ask("CreateEndpoint", EndpointName=name, EndpointConfigName=name)


async def configure(world: ControlWorld, name: str, count: int = 1, kind: str | None = LARGE, **members: Any) -> None:
    """Make a model and a configuration of one variant; ``kind`` None: it has pools."""
    await world.ask("CreateModel", ModelName=name, PrimaryContainer={"Image": IMAGE})
    variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": count, **members}
    if kind is not None:
        variant["InstanceType"] = kind
    await world.ask("CreateEndpointConfig", EndpointConfigName=name, ProductionVariants=[variant])


async def scale(world: ControlWorld, name: str, count: int) -> None:
    """Ask for another number of instances."""
    wanted = [{"VariantName": "v", "DesiredInstanceCount": count}]
    await world.ask("UpdateEndpointWeightsAndCapacities", EndpointName=name, DesiredWeightsAndCapacities=wanted)


async def delete(world: ControlWorld, name: str) -> None:
    """Delete an endpoint and wait for its end."""
    await world.ask("DeleteEndpoint", EndpointName=name)
    await world.until_status(None, name)


async def describe(world: ControlWorld, name: str) -> dict[str, Any]:
    """Describe an endpoint."""
    return await world.ask("DescribeEndpoint", EndpointName=name)


async def until_count(world: ControlWorld, name: str, count: int, seconds: float = 60.0) -> None:
    """Wait until an endpoint has so many instances in service, and no others."""

    async def done() -> bool:
        serving = sum(v["CurrentInstanceCount"] for v in (await describe(world, name)).get("ProductionVariants", ()))
        return [serving, len(alive(world, name))] == [count, count]

    await world.until(done, seconds)


def alive(world: ControlWorld, name: str) -> list[str]:
    """Give the types of an endpoint's instances that the node agent has and that have not ended."""
    return sorted(world.node.specs[i].instance_type for i, r in world.node.alive.items() if r.endpoint == name)


async def notices(world: ControlWorld, name: str) -> list[str]:
    """Give what people were told of an endpoint."""
    found = await world.store.read(lambda connection: events.read_after(connection, 0, 1000))
    return [
        record.document["detail"]["Message"]
        for record in found
        if record.document["source"] == "moorage" and record.document["detail"]["EndpointName"] == name
    ]


class Guard:
    """Scripts of instances that note each launch beyond the machine."""

    def __init__(self, scripts: Scripts = lambda _spec: Script()) -> None:
        self.violations: list[str] = []
        self.world: ControlWorld | None = None
        self._scripts = scripts

    def __call__(self, spec: InstanceSpec) -> Script:
        """Give the script of an instance that is being launched."""
        assert self.world is not None
        node = self.world.node
        types = [node.specs[i].instance_type for i in node.alive if i != spec.instance_id]
        machine = Resources(**_whole(node.machine))
        if not machine.holds(sum_of([*types, spec.instance_type])):
            self.violations.append(f"{spec.instance_id} is launched beside {types}")
        return self._scripts(spec)


def _whole(machine: Mapping[str, float]) -> dict[str, Any]:
    return {name: int(value) for name, value in machine.items()}
