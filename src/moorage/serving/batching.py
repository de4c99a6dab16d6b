"""Batches: requests that wait together are predicted together, when the container's environment asks for it.

    MOORAGE_MAX_BATCH_SIZE, or SAGEMAKER_TS_BATCH_SIZE           requests in a batch; 1, the default: no batches
    MOORAGE_MAX_BATCH_DELAY_MS, or SAGEMAKER_TS_MAX_BATCH_DELAY  how long the first one waits for others to come

The names with TS are TorchServe's (data-plane.md section 9.1), whose delay is 100 ms if it is not said. With the
neutral names it is 0: a batch is what has come while the one before was computed, and nobody ever waits for others.

Requests of the same content type and accept are decoded one by one (``input_fn``). What comes out is put one below the
other along the first axis, if it is NumPy arrays or tensors of the same type with two axes or more, of the same width;
``predict_fn`` is called once, its prediction is cut by the numbers of rows, and each part is encoded by itself
(``output_fn``). Where a prediction fails or cannot be cut, requests are predicted one by one: so one bad request
fails alone. With a ``transform_fn``, or a ``predict_fn`` that wants a context, no batches are made.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .handlers import Decoded, Handlers
from .numbers import number_of
from .wire import Answer, Request

SIZES = ("MOORAGE_MAX_BATCH_SIZE", "SAGEMAKER_TS_BATCH_SIZE")
DELAYS = ("MOORAGE_MAX_BATCH_DELAY_MS", "SAGEMAKER_TS_MAX_BATCH_DELAY")

MOST_REQUESTS = 1024
MOST_DELAY_MS = 60_000
TORCHSERVE_DELAY_MS = 100

_Waiting = TypeVar("_Waiting")


@dataclass(frozen=True)
class Batching:
    """How large a batch may be, and how long its first request waits."""

    size: int = 1
    delay_seconds: float = 0.0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Batching:
        """Read the variables; raises WrongNumber."""
        size = number_of(environment, SIZES, most=MOST_REQUESTS) or 1
        delay = number_of(environment, DELAYS, least=0, most=MOST_DELAY_MS)
        if delay is None:
            delay = 0 if environment.get(SIZES[0]) else TORCHSERVE_DELAY_MS
        return cls(size, delay / 1000 if size > 1 else 0.0)


def kind_of(request: Request) -> Hashable:
    """Give what requests must have in common to be in one batch."""
    headers = request.headers
    return headers.get("content-type"), headers.get("contenttype"), headers.get("accept")


def take_alike(waiting: deque[tuple[_Waiting, Request]], batch: list[tuple[_Waiting, Request]], size: int) -> None:
    """Move requests of the kind of the batch's first from a queue to the batch, until it has that size."""
    others = []
    while waiting and len(batch) < size:
        entry = waiting.popleft()
        if not batch or kind_of(entry[1]) == kind_of(batch[0][1]):
            batch.append(entry)
        else:
            others.append(entry)
    waiting.extendleft(reversed(others))


class Batcher:
    """Answers requests together by a model's functions."""

    def __init__(self, handlers: Handlers, batching: Batching) -> None:
        self._handlers = handlers
        self.batching = batching
        self._uncut = False
        """A prediction could not be cut: no more batches are tried."""

    def answer_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer each of them. Never raises."""
        if len(requests) == 1:
            return [self._handlers.answer(requests[0])]
        answers: dict[int, Answer] = {}
        groups: dict[Hashable, list[tuple[int, Decoded]]] = {}
        for number, request in enumerate(requests):
            if (refusal := self._handlers.refusal(request)) is not None:
                answers[number] = refusal
                continue
            try:
                decoded = self._handlers.decode(request)
            except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever the customer's code does
                answers[number] = self._handlers.failed(fault)
                continue
            form = None if self._uncut else _form_of(decoded.data)
            groups.setdefault((number,) if form is None else form, []).append((number, decoded))
        for group in groups.values():
            answers.update(zip([number for number, _ in group], self._answer_group([each for _, each in group])))
        return [answers[number] for number in range(len(requests))]

    def _answer_group(self, group: Sequence[Decoded]) -> list[Answer]:
        parts = self._predict(group) if len(group) > 1 else None
        if parts is None:
            return [self._answer(decoded) for decoded in group]
        return [self._answer(decoded, part) for decoded, part in zip(group, parts)]

    def _answer(self, decoded: Decoded, *made: Any) -> Answer:
        """Answer with the prediction that was made, or that is made now."""
        try:
            (prediction,) = made or (self._handlers.predict(decoded.context, decoded.data),)
            return self._handlers.finish(decoded, prediction)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever the customer's code does
            return self._handlers.failed(fault)

    def _predict(self, group: Sequence[Decoded]) -> list[Any] | None:
        """Predict together; None when that is not possible."""
        try:
            prediction = self._handlers.predict(group[0].context, _joined([decoded.data for decoded in group]))
        except (Exception, SystemExit):  # noqa: BLE001 - whose fault it is shows when they are predicted one by one
            return None
        parts = _cut(prediction, [len(decoded.data) for decoded in group])
        if parts is None:
            self._uncut = True
            text = f"a prediction ({type(prediction).__name__}) has not a row for each row of the batch"
            print(f"[moorage] No batches are made any more: {text}.", flush=True)  # noqa: T201 - the container's log
        return parts


def _form_of(data: Any) -> Hashable:
    """Give what arrays must have in common to be put one below the other; None for what cannot be."""
    if not _is_array(data) or len(data.shape) < 2:
        return None
    return type(data), data.dtype, getattr(data, "device", None), tuple(data.shape[1:])


def _is_array(data: Any) -> bool:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and type(data) is numpy.ndarray:
        return True
    return torch is not None and isinstance(data, torch.Tensor)


def _joined(parts: Sequence[Any]) -> Any:
    numpy = sys.modules["numpy"]
    if type(parts[0]) is numpy.ndarray:
        return numpy.concatenate(parts)
    return sys.modules["torch"].cat(parts)


def _cut(prediction: Any, rows: Sequence[int]) -> list[Any] | None:
    if not _is_array(prediction) or not prediction.shape or prediction.shape[0] != sum(rows):
        return None
    parts, start = [], 0
    for count in rows:
        parts.append(prediction[start : start + count])
        start += count
    return parts


def make_batcher(handlers: Handlers, batching: Batching) -> Batcher | None:
    """Give what makes batches of a model's requests; None where none are asked for, or it cannot: the log says so."""
    if batching.size == 1:
        return None
    if handlers.batches:
        return Batcher(handlers, batching)
    text = "transform_fn, or what takes the place of predict_fn, answers one request at a time"
    print(f"[moorage] No batches are made: {text}.", flush=True)  # noqa: T201 - the container's log
    return None
