"""The promises of the engines: what each keeps on which machine, and what is refused then."""

from dataclasses import replace

import pytest
from tests.support import promise_table

from moorage.engine.contract import ContainerSpec, CoreDumps, InstanceSpec
from moorage.engine.machine import ENGINES, Machine, Need
from moorage.engine.promises import PROMISES, Never, Refusals, advise, asked_for, judge, refusals

RICH = Machine({}, "0.8.0", 0, "3.11", 2, 2**34)
"""A machine that lacks nothing."""

BARE = replace(RICH, lacks=dict.fromkeys(Need, "it is not there"), bubblewrap=None, uid=1000)

SPEC = InstanceSpec(
    "i-1", "000000000000", "eu-north-1", "ep", "v", "ml.m5.large", (ContainerSpec("primary", "image", {}, None),), 60.0
)


def kept(machine: Machine, engine: str) -> set[str]:
    return {promise.id for promise in PROMISES if judge(promise, machine, engine).kept}


def test_sandbox_keeps_everything_where_nothing_is_lacking() -> None:
    assert kept(RICH, "sandbox") == {promise.id for promise in PROMISES}


def test_process_keeps_what_needs_no_namespaces() -> None:
    assert kept(RICH, "process") == {
        *("privileges", "system-calls", "memory", "processors", "process-count", "ends-whole", "ends-with-moorage"),
        *("core-dumps", "shell"),
    }


def test_machine_that_has_nothing_keeps_what_is_the_engines_own() -> None:
    assert kept(BARE, "sandbox") == kept(BARE, "docker") == set()
    assert kept(BARE, "process") == {"shell"}


def test_only_root_gives_instances_users_of_their_own() -> None:
    ordinary = replace(RICH, uid=1000, lacks={Need.ROOT: "Moorage runs as an ordinary user"})
    assert {promise.id for promise in PROMISES} - kept(ordinary, "sandbox") == {"own-user"}


def test_without_pasta_the_network_is_the_machines() -> None:
    poor = replace(RICH, lacks={Need.OUTSIDE_NETWORK: "pasta is not installed"})
    assert {promise.id for promise in PROMISES} - kept(poor, "sandbox") == {"loopback", "link-local"}
    assert "passt" in advise(Need.OUTSIDE_NETWORK, poor)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("machine", [BARE, replace(BARE, uid=0, bubblewrap="0.8.0")], ids=["user", "root"])
def test_whatever_is_not_kept_has_its_reason_and_what_a_machine_lacks_has_advice(engine: str, machine: Machine) -> None:
    for promise in PROMISES:
        verdict = judge(promise, machine, engine)
        assert verdict.kept or verdict.reason
        assert verdict.kept or verdict.advice or isinstance(promise.by(engine), Never)


def test_ids_and_texts_are_unique() -> None:
    assert len({promise.id for promise in PROMISES}) == len({promise.text for promise in PROMISES}) == len(PROMISES)


def test_members_are_refused_with_promise_reason_and_advice() -> None:
    refused = refusals(RICH, "process")
    assert set(refused) == {
        "EnableNetworkIsolation",
        "VolumeSizeInGB",
        "KmsKeyId",
        "AdditionalModelDataSources",
    }
    assert refused["EnableNetworkIsolation"] == (
        "the engine process does not keep here that an isolated instance has no network, "
        "because its instances are ordinary processes of the user that started Moorage. Use the engine sandbox or "
        "docker: moorage doctor says what it needs."
    )
    assert refusals(RICH, "sandbox") == refusals(RICH, "docker") == {}
    assert set(refusals(BARE, "process")) == {
        *("EnableNetworkIsolation", "VolumeSizeInGB", "KmsKeyId", "CoreDumpConfig", "AdditionalModelDataSources"),
    }


def test_limits_of_the_instance_type_are_never_refused() -> None:
    assert "InstanceType" not in refusals(BARE, "sandbox")


def test_what_one_engine_of_the_machine_can_do_is_not_refused_by_all() -> None:
    process = {"EnableNetworkIsolation": "no namespaces", "KmsKeyId": "no volumes"}
    assert Refusals(process).by_all == process
    assert Refusals(process, {}).by_all == {}
    assert Refusals(process, {"KmsKeyId": "no keys"}).by_all == {"KmsKeyId": "no volumes"}


def test_specification_asks_for_what_it_makes_use_of() -> None:
    assert asked_for(SPEC) == ()
    assert asked_for(
        replace(
            SPEC, network_isolation=True, volume_gib=1, kms_key="k", core_dumps=CoreDumps("s3://b/p"), shell_access=True
        )
    ) == ("EnableNetworkIsolation", "VolumeSizeInGB", "KmsKeyId", "CoreDumpConfig", "EnableSSMAccess")


def test_the_reference_has_the_table_of_promises() -> None:
    assert promise_table.page_table() in promise_table.PAGE.read_text(encoding="utf-8"), (
        "docs/reference/engines.md is behind: python -m tests.support.promise_table"
    )


def test_every_promise_is_shown_by_a_test() -> None:
    assert {promise for promise, tests in promise_table.shown_by().items() if not tests} == set()
