"""How many workers an instance has, and what is done about those that die."""

import os
import signal

import pytest

from moorage.serving.batching import Batching
from moorage.serving.numbers import WrongNumber
from moorage.serving.workers import Losses, Plan, exit_code

WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"


@pytest.mark.parametrize(
    ("environment", "plan"),
    [
        ({}, Plan(1, 1)),
        ({"MOORAGE_WORKERS": "4"}, Plan(1, 4)),
        ({WORKERS: "3", "MOORAGE_WORKERS": "4"}, Plan(3, 3)),
        ({WORKERS: " ", "MOORAGE_WORKERS": "2"}, Plan(1, 2)),
        ({"SAGEMAKER_TS_MIN_WORKERS": "2", "SAGEMAKER_TS_MAX_WORKERS": "5", "MOORAGE_WORKERS": "9"}, Plan(2, 5)),
        ({"SAGEMAKER_TS_MIN_WORKERS": "2"}, Plan(2, 2)),
        ({"MOORAGE_WORKERS": "4", "MOORAGE_MAX_BATCH_SIZE": "8"}, Plan(1, 1)),
        ({"MOORAGE_WORKERS": "4", "MOORAGE_MAX_BATCH_SIZE": "1"}, Plan(1, 4)),
        ({WORKERS: "2", "SAGEMAKER_TS_BATCH_SIZE": "8"}, Plan(2, 2)),
        ({"MOORAGE_LOAD_PER_WORKER": "true"}, Plan(1, 1, load_each=True)),
    ],
)
def test_number_of_workers_is_the_user_s_or_that_of_vcpus_when_they_are_needed(
    environment: dict[str, str], plan: Plan
) -> None:
    assert Plan.of(environment) == plan


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", "257", "²", "99999999999999"])
def test_what_is_no_number_of_workers_is_refused_by_name(given: str) -> None:
    with pytest.raises(WrongNumber, match=f"{WORKERS} is {given}. It must be a whole number from 1 to 256"):
        Plan.of({WORKERS: given})


def test_workers_that_die_at_once_are_replaced_more_and_more_slowly_and_then_no_more() -> None:
    losses = Losses()
    assert [losses.pause(1.0) for _ in range(6)] == [0.0, 0.05, 0.1, 0.2, 0.4, None]


def test_a_worker_that_has_lived_for_long_is_replaced_at_once() -> None:
    losses = Losses()
    assert [losses.pause(lived) for lived in (1, 1, 60, 1, 60, 60)] == [0.0, 0.05, 0.0, 0.05, 0.0, 0.0]


@pytest.mark.parametrize(
    ("end", "code"), [(lambda: os._exit(3), 3), (lambda: os.kill(os.getpid(), signal.SIGKILL), 137)]
)
def test_exit_code_tells_the_signal_as_shells_do(end: "object", code: int) -> None:
    pid = os.fork()
    if pid == 0:
        end()  # type: ignore[operator]
    assert exit_code(os.waitpid(pid, 0)[1]) == code


@pytest.mark.parametrize(
    ("environment", "batching"),
    [
        ({}, Batching(1, 0.0)),
        ({"MOORAGE_MAX_BATCH_SIZE": "8"}, Batching(8, 0.0)),
        ({"MOORAGE_MAX_BATCH_SIZE": "8", "MOORAGE_MAX_BATCH_DELAY_MS": "5"}, Batching(8, 0.005)),
        ({"SAGEMAKER_TS_BATCH_SIZE": "4"}, Batching(4, 0.1)),
        ({"SAGEMAKER_TS_BATCH_SIZE": "4", "SAGEMAKER_TS_MAX_BATCH_DELAY": "0"}, Batching(4, 0.0)),
        ({"SAGEMAKER_TS_BATCH_SIZE": "4", "MOORAGE_MAX_BATCH_SIZE": "2"}, Batching(2, 0.0)),
        ({"SAGEMAKER_TS_BATCH_SIZE": "1"}, Batching(1, 0.0)),
    ],
)
def test_batches_are_made_when_the_environment_asks(environment: dict[str, str], batching: Batching) -> None:
    assert Batching.of(environment) == batching


def test_a_delay_that_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(WrongNumber, match="SAGEMAKER_TS_MAX_BATCH_DELAY is soon"):
        Batching.of({"SAGEMAKER_TS_BATCH_SIZE": "4", "SAGEMAKER_TS_MAX_BATCH_DELAY": "soon"})
