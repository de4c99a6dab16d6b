"""Which instance ``moorage exec`` opens a shell in, and what it says when it may not."""

from dataclasses import replace

import pytest

from moorage.engine.contract import InstanceReport, InstanceSpec, InstanceState
from moorage.node.entrances import Candidate, Door, NoShell, Wanted, choose


def candidate(
    name: str, state: InstanceState, *, pid: int | None = 7, variant: str = "v1", shell: bool = True
) -> Candidate:
    spec = InstanceSpec(name, "0", "us-east-1", "ep", variant, "ml.m5.large", (), 1.0, shell_access=shell)
    return Candidate(spec, InstanceReport(name, "ep", variant, state, 0.0, pid=pid), {"primary": Door(7, {"A": name})})


STARTING = candidate("i-1", InstanceState.STARTING)
READY = candidate("i-2", InstanceState.READY)
CLOSED = candidate("i-3", InstanceState.READY, variant="v2", shell=False)


def test_ready_instance_is_chosen_before_one_that_starts() -> None:
    assert choose(Wanted("ep", None, None), [STARTING, READY]).instance_id == "i-2"


def test_named_instance_is_chosen_with_its_variables() -> None:
    entrance = choose(Wanted("ep", "v1", "i-1"), [STARTING, READY])
    assert (entrance.instance_id, entrance.pid, entrance.variables) == ("i-1", 7, {"A": "i-1"})


def test_instance_that_allows_a_shell_is_chosen_over_one_that_does_not() -> None:
    assert choose(Wanted("ep", None, None), [CLOSED, STARTING]).instance_id == "i-1"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            Wanted("ep", "v2", None),
            "The variant v2 of the endpoint ep allows no shell: ",
        ),
        (Wanted("ep", "v1", "i-9"), "ep/v1/i-9 does not run here. Running: ep/v1, ep/v2."),
        (Wanted("other", None, None), "other does not run here. Running: ep/v1, ep/v2."),
    ],
    ids=str,
)
def test_refusal_says_why(wanted: Wanted, said: str) -> None:
    with pytest.raises(NoShell) as refusal:
        choose(wanted, [READY, CLOSED])
    assert str(refusal.value).startswith(said)


def test_instance_that_is_being_prepared_has_nothing_to_enter_yet() -> None:
    preparing = replace(READY, report=replace(READY.report, state=InstanceState.PREPARING), doors={})
    with pytest.raises(NoShell, match="ep has not started yet"):
        choose(Wanted("ep", None, None), [preparing])


def test_container_of_several_is_chosen_by_its_name_or_is_the_first() -> None:
    several = replace(READY, doors={"a": Door(1, None), "b": Door(2, None)})
    assert choose(Wanted("ep", None, None), [several]).pid == 1
    assert choose(Wanted("ep", "v1", "i-2", "b"), [several]).pid == 2
    with pytest.raises(NoShell) as refusal:
        choose(Wanted("ep", "v1", "i-2", "c"), [several])
    assert str(refusal.value) == "i-2 has no container c. Its containers: a, b."
