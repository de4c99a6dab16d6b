"""Batches of the built-in model server: real arrays, over real sockets."""

import json
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from tests.support.model_server import Instance, Start, start

from moorage.engine.environments import Environment
from moorage.serving.batching import take_alike
from moorage.serving.wire import Request

__all__ = ["start"]

CODE = """
import numpy as np
def model_fn(model_dir):
    return None
def predict_fn(rows, model):
    print("predicts", rows.shape, flush=True)
    if (rows < 0).any():
        raise ValueError("negative")
    return rows.sum(axis=1)
"""
THREE = {"MOORAGE_MAX_BATCH_SIZE": "3", "MOORAGE_MAX_BATCH_DELAY_MS": "4000"}
"""The delay ends with the third request."""

pytestmark = pytest.mark.slow  # the first test of a machine builds the environment of scikit-learn

Sent = tuple[str, dict[str, str]]
JSON, CSV = {"Content_Type": "application/json"}, {"Content_Type": "text/csv"}


def _ask_together(instance: Instance, sent: list[Sent]) -> list[tuple[int, bytes]]:
    answers: dict[int, tuple[int, bytes]] = {}

    def ask(number: int, body: str, headers: dict[str, str]) -> None:
        status, _type, answer = instance.post(body.encode(), **headers)
        answers[number] = status, answer

    asking = [threading.Thread(target=ask, args=(number, *each)) for number, each in enumerate(sent)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    return [answers[number] for number in range(len(sent))]


def _rows(*rows: list[float]) -> Sent:
    return json.dumps(rows), JSON


def _predictions(instance: Instance) -> list[str]:
    return [line for line in instance.log.read_text().splitlines() if line.startswith("predicts")]


@pytest.fixture
def python(sklearn_environment: Environment) -> str:
    return str(sklearn_environment.python)


def test_requests_that_wait_together_are_predicted_at_once_and_each_gets_its_rows(
    start: Start, tmp_path: Path, python: str
) -> None:
    instance = start(CODE, tmp_path, python, **THREE)
    answers = _ask_together(instance, [_rows([1, 2]), _rows([3, 4], [5, 6]), _rows([7, 8])])
    assert answers == [(200, b"[3.0]"), (200, b"[7.0, 11.0]"), (200, b"[15.0]")]
    assert _predictions(instance) == ["predicts (4, 2)"]


def test_one_bad_request_fails_alone(start: Start, tmp_path: Path, python: str) -> None:
    instance = start(CODE, tmp_path, python, **THREE)
    good, bad, malformed = _ask_together(instance, [_rows([1, 2]), _rows([-3, 4]), ("[[", JSON)])
    assert good == (200, b"[3.0]")
    assert bad == (500, b"ValueError: negative")
    assert malformed[0] == 500
    assert b"JSONDecodeError" in malformed[1]


def test_rows_of_another_width_or_type_are_not_mixed(start: Start, tmp_path: Path, python: str) -> None:
    instance = start(CODE, tmp_path, python, **THREE)
    answers = _ask_together(instance, [_rows([1, 2]), _rows([1, 2, 3]), _rows([4, 5])])
    assert answers == [(200, b"[3.0]"), (200, b"[6.0]"), (200, b"[9.0]")]
    assert sorted(_predictions(instance)) == ["predicts (1, 3)", "predicts (2, 2)"]


def test_requests_of_other_media_types_are_batches_of_their_own(start: Start, tmp_path: Path, python: str) -> None:
    size_two = {"MOORAGE_MAX_BATCH_SIZE": "2", "MOORAGE_MAX_BATCH_DELAY_MS": "4000"}
    instance = start(CODE, tmp_path, python, **size_two)
    rows = "1,2\n3,4\n"
    answers = _ask_together(instance, [_rows([1, 2]), (rows, CSV), _rows([3, 4]), (rows, CSV)])
    assert answers == [(200, b"[3.0]"), (200, b"[3.0, 7.0]"), (200, b"[7.0]"), (200, b"[3.0, 7.0]")]
    assert sorted(_predictions(instance)) == ["predicts (2, 2)", "predicts (4, 2)"]


def test_prediction_that_cannot_be_cut_is_made_for_each_request_and_said_once(
    start: Start, tmp_path: Path, python: str
) -> None:
    whole = CODE.replace("rows.sum(axis=1)", "[float(rows.sum())]")
    instance = start(whole, tmp_path, python, **THREE)
    for _ in range(2):
        assert _ask_together(instance, [_rows([1, 2])] * 3) == [(200, b"[3.0]")] * 3
    assert _predictions(instance) == ["predicts (3, 2)"] + ["predicts (1, 2)"] * 6
    assert instance.log.read_text().count("[moorage] No batches are made any more: a prediction (list)") == 1


def test_first_request_waits_no_longer_than_it_was_said(start: Start, tmp_path: Path, python: str) -> None:
    instance = start(CODE, tmp_path, python, SAGEMAKER_TS_BATCH_SIZE="8", SAGEMAKER_TS_MAX_BATCH_DELAY="300")
    instance.get()
    began = time.monotonic()
    assert _ask_together(instance, [_rows([1, 2])]) == [(200, b"[3.0]")]
    assert 0.25 < time.monotonic() - began < 2


def test_transform_fn_is_never_given_a_batch(start: Start, tmp_path: Path) -> None:
    code = """
    def model_fn(model_dir):
        return None
    def transform_fn(model, data, content_type, accept):
        return data, "text/plain"
    """
    instance = start(code, tmp_path, **THREE)
    assert _ask_together(instance, [("1", JSON), ("2", JSON)]) == [(200, b"1"), (200, b"2")]
    instance.wait_for_log("[moorage] No batches are made: transform_fn")


def test_wrong_size_of_a_batch_is_said_and_ends_the_instance(start: Start, tmp_path: Path) -> None:
    instance = start("", tmp_path, MOORAGE_MAX_BATCH_SIZE="all")
    assert instance.process.wait(10) == 1
    instance.wait_for_log("MOORAGE_MAX_BATCH_SIZE is all. It must be a whole number from 1 to 1024.")


def _request(content_type: str, body: bytes) -> tuple[str, Request]:
    return body.decode(), Request("POST", "/invocations", {"content-type": content_type}, body, keep_alive=True)


def test_batch_takes_what_is_like_its_first_and_leaves_the_others_in_their_order() -> None:
    waiting = deque(_request(kind, b"%d" % number) for number, kind in enumerate("abaabba"))
    batch: list[tuple[str, Request]] = []
    take_alike(waiting, batch, 3)
    assert ([name for name, _ in batch], [name for name, _ in waiting]) == (["0", "2", "3"], ["1", "4", "5", "6"])
    take_alike(waiting, batch, 4)
    assert ([name for name, _ in batch], [name for name, _ in waiting]) == (["0", "2", "3", "6"], ["1", "4", "5"])
