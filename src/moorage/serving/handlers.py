"""What turns a request into an answer: the customer's functions and the container's defaults in between.

The contract is that of AWS's Python containers (data-plane.md section 9.1): ``model_fn``, then ``input_fn``,
``predict_fn``, ``output_fn``, or ``transform_fn`` in place of the three. This module has what all containers share, and
the manner of the older ones, which answer by Flask (scikit-learn, XGBoost). The folder ``toolkits`` has one module for
each container, and ``toolkits.model_servers`` the manner of those with a model server of its own. A function that
takes one parameter more than the contract says is given a ``Context``.

An iterator in the place of a body, such as a generator of ``str`` or ``bytes``, is an answer that is sent while it is
made. Its first piece is made here: what fails before it is an error like any other, what fails later breaks the answer.
"""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

from . import media
from .context import Context
from .pages import FLASK_PAGES
from .wire import Answer, Pieces, Request, plain

Function = Callable[..., Any]

NO_MODEL_FN = (
    "Please provide a model_fn implementation. See documentation for model_fn at "
    "https://github.com/aws/sagemaker-python-sdk"
)

_DROPPED_HEADERS = frozenset({"content-type", "content-length", "connection", "transfer-encoding", "date", "server"})
_KNOWN_TYPES = 64
_THREE = ("input_fn", "predict_fn", "output_fn")


class UserError(Exception):
    """The customer's module contradicts itself."""


def no_model_fn(_model_dir: str) -> Any:
    """Stand for the model_fn that the customer has not written."""
    raise NotImplementedError(NO_MODEL_FN)


def call_predict(data: Any, model: Any) -> Any:
    """Predict as scikit-learn's models do."""
    return model.predict(data)


def encode(prediction: Any, accept: str) -> tuple[Any, str]:
    """Encode a prediction; one that is made piece by piece is text or bytes already."""
    if isinstance(prediction, Iterator):
        return prediction, accept
    return media.encode(prediction, accept), accept


@dataclass(frozen=True)
class Defaults:
    """What a container does where the customer's module has no function; those of scikit-learn's."""

    model_fn: Function = no_model_fn
    input_fn: Function = media.decode
    predict_fn: Function = call_predict
    output_fn: Function = encode


class Decoded(NamedTuple):
    """A request whose data ``predict_fn`` can be given."""

    context: Context
    accept: str
    data: Any


class Handlers:
    """A loaded model and the functions that use it, in the manner of the containers that answer by Flask."""

    pages = FLASK_PAGES
    batches = False
    """Several requests can be predicted together: ``predict_fn`` is given their data, and nothing of one alone."""
    both_ways = "Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn"
    """What is said of a module that has transform_fn and one of the three."""

    def __init__(
        self,
        module: ModuleType | None,
        model_dir: str,
        default_accept: str,
        defaults: Defaults = Defaults(),
        *,
        body_bytes: int | None = None,
    ) -> None:
        self._model_dir = model_dir
        self._default_accept = default_accept
        self._body_bytes = sys.maxsize if body_bytes is None else body_bytes
        """Largest body of a request that is taken."""
        given = {name: getattr(module, name, None) for name in (*_THREE, "transform_fn")}
        if given["transform_fn"] is not None and any(given[name] for name in _THREE):
            raise UserError(self.both_ways)
        self._transform_fn = given["transform_fn"] and self._bind(given["transform_fn"], 4)
        self._input_fn = self._bind(given["input_fn"] or defaults.input_fn, 2)
        self._predict_fn = self._bind(given["predict_fn"] or defaults.predict_fn, 2)
        self._output_fn = self._bind(given["output_fn"] or defaults.output_fn, 2)
        self.batches = self._transform_fn is None and not self._wants_context(
            given["predict_fn"] or defaults.predict_fn, 2
        )
        self._model = self._load(module, defaults)

    def answer(self, request: Request) -> Answer:
        """Answer an invocation. Never raises: the customer's exceptions become an answer too."""
        if (refusal := self.refusal(request)) is not None:
            return refusal
        try:
            return self._transform(request)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever the customer's code does
            return self.failed(fault)

    def refusal(self, request: Request) -> Answer | None:
        """Answer what the customer's code is not shown."""
        return self._too_large() if len(request.body) > self._body_bytes else None

    def failed(self, fault: BaseException) -> Answer:
        """Answer with an exception, whose traceback the log gets."""
        traceback.print_exception(type(fault), fault, fault.__traceback__, file=sys.stderr)
        return self._failed(fault)

    def _transform(self, request: Request) -> Answer:
        context, content_type, accept = self._read(request)
        body = self._body_of(request, content_type)
        if self._transform_fn is None:
            data = self._input_fn(context, body, content_type)
            result = self._output_fn(context, self._predict_fn(context, data, self._model), accept)
        else:
            result = self._transform_fn(context, self._model, body, content_type, accept)
        return self._finish(context, accept, result)

    # The steps of an invocation by the three functions; each raises whatever the customer's code does.

    def decode(self, request: Request) -> Decoded:
        """Let ``input_fn`` make data of a request."""
        context, content_type, accept = self._read(request)
        return Decoded(context, accept, self._input_fn(context, self._body_of(request, content_type), content_type))

    def predict(self, context: Context, data: Any) -> Any:
        """Let ``predict_fn`` predict."""
        return self._predict_fn(context, data, self._model)

    def finish(self, decoded: Decoded, prediction: Any) -> Answer:
        """Let ``output_fn`` make an answer of a prediction."""
        return self._finish(
            decoded.context, decoded.accept, self._output_fn(decoded.context, prediction, decoded.accept)
        )

    def _read(self, request: Request) -> tuple[Context, Any, str]:
        """Give a context of a request, its content type, and what it accepts."""
        headers = request.headers
        accept = headers.get("accept")
        if not accept or accept == "*/*":
            accept = self._default_accept
        return Context(self._model_dir, headers), self._content_type_of(headers), accept

    def _body_of(self, request: Request, content_type: Any) -> str | bytes:
        return self._as_text(request.body) if content_type in media.TEXT_TYPES else request.body

    def _finish(self, context: Context, accept: str, result: Any) -> Answer:
        answer = self._as_answer(result, accept)
        return answer if context.status is None and context.headers is None else _as_told(answer, context)

    # What differs from container to container.

    def _load(self, module: ModuleType | None, defaults: Defaults) -> Any:
        model_fn = self._bind(getattr(module, "model_fn", None) or defaults.model_fn, 1)
        return model_fn(Context(self._model_dir, {}), self._model_dir)

    def _bind(self, function: Function, parameters: int) -> Function:
        """Make a function that is given a Context first, and passes it on as the last argument if that is wanted."""
        return with_context(function, wants=self._wants_context(function, parameters))

    def _wants_context(self, function: Function, parameters: int) -> bool:
        return _takes_context(function, parameters)

    def _content_type_of(self, headers: Mapping[str, str]) -> Any:
        return headers.get("contenttype") or headers.get("content-type") or media.JSON

    def _as_text(self, body: bytes) -> str:
        return body.decode("utf-8", "replace")

    def _as_answer(self, result: Any, _accept: str) -> Answer:
        """Make an answer of what a function may return: a body, a body and its type, or a Response object."""
        if isinstance(result, tuple) and len(result) >= 2:
            return with_body(result[0], _content_type(str(result[1] or media.JSON)))
        if hasattr(result, "get_data") and hasattr(result, "status_code"):
            return _of_response(result)
        if isinstance(result, dict):
            return Answer(200, media.JSON, as_bytes(media.encode(result, media.JSON)))
        return with_body(result, media.HTML)  # Flask's type of a bare body

    def _failed(self, fault: BaseException) -> Answer:
        """Answer with an exception: its one line goes to the client, its traceback is in the log."""
        return plain(500, one_line(fault))

    def _too_large(self) -> Answer:
        return plain(413, f"The request's body is larger than {self._body_bytes} bytes.")


def _as_told(answer: Answer, context: Context) -> Answer:
    """Put what the customer's code has said by the context into an answer."""
    told = [(str(name), clean(str(value))) for name, value in (context.headers or {}).items()]
    answer.headers = [*answer.headers, *(entry for entry in told if entry[0].lower() not in _DROPPED_HEADERS)]
    answer.status = answer.status if context.status is None else int(context.status)
    return answer


def one_line(fault: BaseException) -> str:
    """Give an exception's name and text on one line."""
    return " ".join("".join(traceback.format_exception_only(type(fault), fault)).split())


def with_context(function: Function, *, wants: bool) -> Function:
    """Make a function whose first argument is a Context, and whose last it becomes if the function wants it."""

    def call(context: Context, *arguments: Any) -> Any:
        return function(*arguments, context) if wants else function(*arguments)

    return call


def _takes_context(function: Function, parameters: int) -> bool:
    """Tell whether a function has a further parameter for the context: without a default, or of that name."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built-in functions need not have one
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [entry for entry in signature.parameters.values() if entry.kind in kinds]
    if len(positional) != parameters + 1:
        return False
    last = positional[-1]
    return last.default is inspect.Parameter.empty or last.name == "context"


def _of_response(response: Any) -> Answer:
    """Make an answer of a Response object of Flask, or of what looks like one."""
    headers = [(str(name), clean(str(value))) for name, value in response.headers.items()]
    given = {name.lower(): value for name, value in headers}
    kept = [entry for entry in headers if entry[0].lower() not in _DROPPED_HEADERS]
    return Answer(int(response.status_code), given.get("content-type", ""), as_bytes(response.get_data()), kept)


def with_body(body: Any, content_type: str) -> Answer:
    """Make a good answer of a body, or of an iterator that makes it."""
    if not isinstance(body, Iterator):
        return Answer(200, content_type, as_bytes(body))
    pieces = _as_pieces(body)
    first = next(pieces, b"")
    return Answer(200, content_type, first, pieces=pieces)


def _as_pieces(made: Iterator[Any]) -> Pieces:
    """Give the pieces as bytes, without empty ones; whoever closes this closes what the customer's code made."""
    try:
        for piece in made:
            if data := as_bytes(piece):
                yield data
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()


def as_bytes(body: Any) -> bytes:
    """Give a body as bytes; raises TypeError for what is none."""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, (list, tuple)):
        return b"".join(as_bytes(piece) for piece in body)
    raise TypeError(
        "The function must return str or bytes, an iterator of them, or a pair of that and its content type; it "
        f"returned {type(body).__name__}."
    )


@functools.lru_cache(maxsize=_KNOWN_TYPES)
def _content_type(media_type: str) -> str:
    """Give the Content-Type that Flask makes of a media type; raises ValueError when it cannot be one."""
    return clean(media.with_charset(media_type))


def clean(value: str) -> str:
    """Give the value of a header as it is; raises what the client is then told when it cannot be one."""
    if "\r" in value or "\n" in value:
        raise ValueError("A header of the response has a line break in it.")
    value.encode("latin-1")
    return value
