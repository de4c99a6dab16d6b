"""Routing strategies with real instances: which of them answers, by the name that each has given itself."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from tests.support import models
from tests.support.fixtures import Deployment
from tests.support.product import wait_until
from tests.support.small_models import SITTING, a_variant, serve, told

PREFIX = 1024


@pytest.fixture(scope="module")
def model(deployment: Deployment) -> str:
    return deployment.model("routing", models.code_only(SITTING))


def routed(deployment: Deployment, model: str, name: str, count: int, routing: dict[str, Any] | None) -> None:
    """Make an endpoint of so many instances with a strategy; None: with none."""
    changes = {} if routing is None else {"RoutingConfig": routing}
    described = serve(deployment, name, a_variant("only", model, count, **changes))
    assert described["ProductionVariants"][0].get("RoutingConfig") == routing


def prefix_aware(threshold: int) -> dict[str, Any]:
    settings = {"PrefixLength": PREFIX, "ConcurrencyThreshold": threshold}
    return {"RoutingStrategy": "PREFIX_AWARE", "PrefixAwareRoutingConfig": settings}


def ask(deployment: Deployment, name: str, body: str, **more: Any) -> str:
    """Invoke; gives the name of the instance that answered."""
    return deployment.invoke(name, body, **more)[0]


@contextmanager
def sitting(deployment: Deployment, name: str, body: str) -> Iterator["Future[str]"]:
    """Have an instance at work on a body for a few seconds; gives the name that it turns out to have."""
    before = len(told(deployment, name, "only"))
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(ask, deployment, name, f"{body}sit")
        wait_until(lambda: len(told(deployment, name, "only")) > before, within=10, what="an instance is busy")
        yield busy


def start_of(number: int) -> str:
    """Make a start of the length that counts, different for each number."""
    return f"{number:04d} " + "x" * (PREFIX - 5)


@pytest.mark.slow  # starts instances, one of which is slow
def test_least_outstanding_requests_avoids_the_instance_that_is_busy(deployment: Deployment, model: str) -> None:
    routed(deployment, model, "least", 2, {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"})

    with sitting(deployment, "least", "") as busy:
        quick = [ask(deployment, "least", "now") for _ in range(20)]
        still_busy = not busy.done()
    both = {ask(deployment, "least", "now") for _ in range(40)}
    deployment.delete("least")

    assert still_busy
    assert len(set(quick)) == 1
    assert busy.result() not in quick
    assert both == {busy.result(), quick[0]}


@pytest.mark.slow  # starts instances
@pytest.mark.parametrize("routing", [None, {"RoutingStrategy": "RANDOM"}])
def test_random_is_the_default_and_uses_all_instances(
    deployment: Deployment, model: str, routing: dict[str, Any] | None
) -> None:
    name = "uniform" if routing is None else "random"
    routed(deployment, model, name, 3, routing)

    answers = [ask(deployment, name, start_of(1)) for _ in range(120)]
    deployment.delete(name)

    # Each of them has 40 on average; that one has fewer than 15 by chance happens once in ten million runs.
    assert sorted(answers.count(instance) >= 15 for instance in set(answers)) == [True] * 3


@pytest.mark.slow  # starts instances
def test_prefix_aware_sends_the_same_start_to_the_same_instance(deployment: Deployment, model: str) -> None:
    routed(deployment, model, "prefix", 3, prefix_aware(64))

    by_start = {
        number: {ask(deployment, "prefix", start_of(number) + tail) for tail in ("", "a", "b", "what else")}
        for number in range(24)
    }
    by_id = {
        number: {ask(deployment, "prefix", start_of(0), PrefixAwareId=f"tenant-{number}") for _ in range(3)}
        for number in range(24)
    }
    deployment.delete("prefix")

    for answered in (by_start, by_id):
        assert all(len(instances) == 1 for instances in answered.values())
        assert len(set[str]().union(*answered.values())) == 3


@pytest.mark.slow  # starts instances, one of which is slow
def test_prefix_aware_goes_elsewhere_from_the_threshold_on(deployment: Deployment, model: str) -> None:
    routed(deployment, model, "threshold", 2, prefix_aware(1))
    at_home = ask(deployment, "threshold", start_of(7))

    with sitting(deployment, "threshold", start_of(7)) as busy:
        meanwhile = [ask(deployment, "threshold", f"{start_of(7)} {number}") for number in range(5)]
        still_busy = not busy.done()
    afterwards = ask(deployment, "threshold", start_of(7))
    deployment.delete("threshold")

    assert still_busy
    assert busy.result() == at_home == afterwards
    assert at_home not in meanwhile


@pytest.mark.slow  # starts instances
def test_kv_aware_goes_back_to_where_the_start_of_the_prompt_is_known(deployment: Deployment, model: str) -> None:
    routed(deployment, model, "kv", 3, {"RoutingStrategy": "KV_AWARE"})
    prompts = [f"{number} " + "once upon a time " * 500 for number in range(12)]

    first = [ask(deployment, "kv", prompt) for prompt in prompts]
    later = [ask(deployment, "kv", f"{prompt} and then {turn}") for turn in range(3) for prompt in prompts]
    deployment.delete("kv")

    assert later == first * 3
    assert len(set(first)) > 1


@pytest.mark.slow  # starts instances, one of which is slow
def test_kv_aware_avoids_the_busy_instance_with_a_prompt_that_nobody_knows(deployment: Deployment, model: str) -> None:
    routed(deployment, model, "kv-busy", 2, {"RoutingStrategy": "KV_AWARE"})

    with sitting(deployment, "kv-busy", "") as busy:
        quick = {ask(deployment, "kv-busy", f"short {number}") for number in range(10)}
    deployment.delete("kv-busy")

    assert busy.result() not in quick


@pytest.mark.slow  # starts instances
def test_strategy_of_an_update_is_that_of_the_new_configuration(deployment: Deployment, model: str) -> None:
    routed(deployment, model, "changing", 2, prefix_aware(64))
    before = {ask(deployment, "changing", start_of(3)) for _ in range(20)}
    deployment.sagemaker.create_endpoint_config(
        EndpointConfigName="changing-2", ProductionVariants=[a_variant("only", model, 2)]
    )

    deployment.sagemaker.update_endpoint(EndpointName="changing", EndpointConfigName="changing-2")
    described = deployment.settled("changing")
    after = {ask(deployment, "changing", start_of(3)) for _ in range(60)}
    deployment.delete("changing")

    assert "RoutingConfig" not in described["ProductionVariants"][0]
    assert (len(before), len(after)) == (1, 2)
