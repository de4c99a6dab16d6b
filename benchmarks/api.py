"""The control plane's API: how much of it one core gives.

All processes of the server share one core, the load has another. Every request is authenticated; a creation is
answered when the disk has it. A page of a list holds at most 100 items, so that a list of 1,000 is ten requests.
"""

import contextlib
import itertools
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import insert
from tests.support.product import IMAGE, ROLE, Moorage, running

from benchmarks.load import Load, Outcome, Signer
from benchmarks.measures import Measure
from moorage.state.migrations import migrate
from moorage.state.records import Kind
from moorage.state.sqlite import open_file
from moorage.state.tables import DOCUMENTS

CREATIONS, CREATORS = 3_000, 32
DESCRIPTIONS, DESCRIBERS = 15_000, 16
KEPT, LISTED, PAGE, ROUNDS = 100_000, 1_000, 100, 20
_BATCH = 5_000


def measure() -> Iterator[Measure]:
    """Create, describe, list; then look whether the memory has grown."""
    with tempfile.TemporaryDirectory() as folder, _on_one_core(Path(folder) / "data") as moorage:
        signer = Signer.of(moorage)
        load = Load(signer.authority)
        moorage.client("sagemaker").create_model(
            ModelName="bench", PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE
        )
        load.run((signer.request("CreateEndpointConfig", configuration(f"warm-{n}")) for n in range(300)), CREATORS)
        requests = [signer.request("CreateEndpointConfig", configuration(f"made-{n}")) for n in range(CREATIONS)]
        yield _rate("CreateEndpointConfig, durable", 300, load.run(requests, CREATORS))
        request = signer.request("DescribeEndpointConfig", {"EndpointConfigName": "made-7"})
        load.run(itertools.repeat(request, 1_000), DESCRIBERS)
        before = _memory(moorage)
        yield _rate("DescribeEndpointConfig", 1_500, load.run(itertools.repeat(request, DESCRIPTIONS), DESCRIBERS))
        grown = _memory(moorage) - before
        yield Measure(
            f"memory of control and gateways, {DESCRIPTIONS} requests later", "flat", f"{grown / 1e6:+.1f} MB"
        )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        keep(data, KEPT)
        with _on_one_core(data) as moorage:
            signer = Signer.of(moorage)
            seconds = _list(signer, Load(signer.authority))
            note = f"{LISTED // PAGE} pages, each p50 {seconds * 1000 * PAGE / LISTED:.1f} ms"
            yield Measure(f"list {LISTED} of {KEPT} configurations", "<= 20 ms", f"{seconds * 1000:.1f} ms", note)


def configuration(name: str) -> dict[str, Any]:
    """Make a CreateEndpointConfig request as people send it: one variant and two tags."""
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "bench",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }
    tags = [{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": "test"}]
    return {"EndpointConfigName": name, "ProductionVariants": [variant], "Tags": tags}


def keep(data: Path, count: int) -> None:
    """Put endpoint configurations into a new data folder, as if they had been made a second apart."""
    data.mkdir(mode=0o700)
    engine = open_file(data / "state.db", connections=1)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        migrate(connection)
        for batch in _batches(count):
            connection.execute(insert(DOCUMENTS), [_row(number) for number in batch])
    engine.dispose()


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, _BATCH):
        yield range(start, min(start + _BATCH, count))


def _row(number: int) -> dict[str, Any]:
    name = f"Kept-{number:06}"
    members = {"ProductionVariants": configuration(name)["ProductionVariants"]}
    return {
        "account": "000000000000",
        "region": "us-east-1",
        "kind": Kind.ENDPOINT_CONFIG,
        "name_key": name.lower(),
        "name": name,
        "members": members,
        "created_at": 1_700_000_000.0 + number,
    }


def _list(signer: Signer, load: Load) -> float:
    """Give the seconds that the newest thousand take, as a paginator asks for them."""
    conversation, rounds = load.converse(), []
    for _ in range(ROUNDS):
        names: set[str] = set()
        more: dict[str, str] = {}
        seconds = 0.0
        while len(names) < LISTED:
            request = signer.request("ListEndpointConfigs", {"MaxResults": PAGE, **more})
            body, taken = conversation.ask(request)
            answer = orjson.loads(body)
            more, seconds = {"NextToken": answer["NextToken"]}, seconds + taken
            names |= {entry["EndpointConfigName"] for entry in answer["EndpointConfigs"]}
        rounds.append(seconds)
    return statistics.median(rounds)


@contextlib.contextmanager
def _on_one_core(data: Path) -> Iterator[Moorage]:
    """Have a server whose processes share the first core, and the rest of the cores for the load."""
    cores = os.sched_getaffinity(0)
    first = {min(cores)}
    os.sched_setaffinity(0, first)
    try:
        with running(data) as moorage:
            os.sched_setaffinity(0, cores - first or cores)
            yield moorage
    finally:
        os.sched_setaffinity(0, cores)


def _rate(what: str, reach: int, outcome: Outcome) -> Measure:
    if set(outcome.statuses) != {200}:
        raise RuntimeError(f"{what}: {outcome.statuses}")
    return Measure(f"{what} on one core", f">= {reach}/s", f"{outcome.rate:.0f}/s", f"p50 {outcome.p50_ms:.1f} ms")


def _memory(moorage: Moorage) -> int:
    """Give the resident bytes of the processes that answer the API."""
    return sum(row["rss_bytes"] for row in moorage.ps() if row["role"] in {"control", "gateway"})
