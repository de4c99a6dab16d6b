"""What turns a request into an answer: the customer's functions and the container's defaults in between.

The contract is that of AWS's Python containers (data-plane.md sections 9.1 and 9.3): ``input_fn``, ``predict_fn``,
``output_fn``, or ``transform_fn`` in place of all three. A function that takes one parameter more than the contract
says is given a ``Context``, as the newer toolkits do. Every exception is a 500; its one line goes to the client and
its traceback to the log.

An iterator in the place of a body, such as a generator of ``str`` or ``bytes``, is an answer that is sent while it is
made. Its first piece is made here: what fails before it is a 500 like any other, what fails later breaks the answer.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from . import media
from .wire import Answer, Pieces, Request, plain

Function = Callable[..., Any]

NO_MODEL_FN = (
    "Please provide a model_fn implementation. See documentation for model_fn at "
    "https://github.com/aws/sagemaker-python-sdk"
)

_DROPPED_HEADERS = frozenset({"content-type", "content-length", "connection", "transfer-encoding", "date", "server"})


class UserError(Exception):
    """The customer's module contradicts itself."""


class Context:
    """What a function that asks for it learns beside its data."""

    def __init__(self, model_dir: str, headers: Mapping[str, str]) -> None:
        self.system_properties = {"model_dir": model_dir, "gpu_id": None}
        self._headers = headers

    def get_request_header(self, index: int, key: str) -> str | None:
        """Give a header of the request; there is one request only, whose index is 0."""
        return self._headers.get(key.lower()) if index == 0 else None

    def get_all_request_header(self, index: int) -> dict[str, str]:
        """Give all headers of the request by lower-case name."""
        return dict(self._headers) if index == 0 else {}


class Handlers:
    """A loaded model and the functions that use it."""

    def __init__(self, module: ModuleType, model_dir: str, default_accept: str) -> None:
        self._model_dir = model_dir
        self._default_accept = default_accept
        functions = {name: getattr(module, name, None) for name in ("input_fn", "predict_fn", "output_fn")}
        transform_fn = getattr(module, "transform_fn", None)
        if transform_fn is not None and any(functions.values()):
            raise UserError("Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn")
        self._transform_fn = transform_fn and _with_context(transform_fn, 4)
        self._input_fn = _with_context(functions["input_fn"] or media.decode, 2)
        self._predict_fn = _with_context(functions["predict_fn"] or _predict, 2)
        self._output_fn = _with_context(functions["output_fn"] or _output, 2)
        model_fn = _with_context(getattr(module, "model_fn", no_model_fn), 1)
        self._model = model_fn(Context(model_dir, {}), model_dir)

    def answer(self, request: Request) -> Answer:
        """Answer an invocation. Never raises: the customer's exceptions become a 500."""
        try:
            return self._transform(request)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - whatever the customer's code does
            traceback.print_exc(file=sys.stderr)
            return plain(500, one_line(fault))

    def _transform(self, request: Request) -> Answer:
        headers = request.headers
        content_type = headers.get("contenttype") or headers.get("content-type") or media.JSON
        accept = headers.get("accept")
        if not accept or accept == "*/*":
            accept = self._default_accept
        body: str | bytes = request.body
        if content_type in media.TEXT_TYPES:
            body = request.body.decode("utf-8", "replace")
        context = Context(self._model_dir, headers)
        if self._transform_fn is not None:
            return _as_answer(self._transform_fn(context, self._model, body, content_type, accept))
        data = self._input_fn(context, body, content_type)
        prediction = self._predict_fn(context, data, self._model)
        return _as_answer(self._output_fn(context, prediction, accept))


def no_model_fn(_model_dir: str) -> Any:
    """Stand for the model_fn that the customer has not written."""
    raise NotImplementedError(NO_MODEL_FN)


def one_line(fault: BaseException) -> str:
    """Give an exception's name and text on one line."""
    return " ".join("".join(traceback.format_exception_only(fault)).split())


def _predict(data: Any, model: Any) -> Any:
    return model.predict(data)


def _output(prediction: Any, accept: str) -> tuple[Any, str]:
    """Encode a prediction; one that is made piece by piece is text or bytes already."""
    if isinstance(prediction, Iterator):
        return prediction, accept
    return media.encode(prediction, accept), accept


def _with_context(function: Function, parameters: int) -> Function:
    """Make a function that is given a Context first, and passes it on as the last argument if that is wanted."""
    wants = _takes_context(function, parameters)

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


def _as_answer(result: Any) -> Answer:
    """Make an answer of what a function may return: a body, a body and its type, or a Response object."""
    if isinstance(result, tuple) and len(result) >= 2:
        return _with_body(result[0], _clean(media.with_charset(str(result[1] or media.JSON))))
    if hasattr(result, "get_data") and hasattr(result, "status_code"):
        headers = [(str(name), _clean(str(value))) for name, value in result.headers.items()]
        given = {name.lower(): value for name, value in headers}
        kept = [entry for entry in headers if entry[0].lower() not in _DROPPED_HEADERS]
        return Answer(int(result.status_code), given.get("content-type", ""), _as_bytes(result.get_data()), kept)
    if isinstance(result, dict):
        return Answer(200, media.JSON, _as_bytes(media.encode(result, media.JSON)))
    return _with_body(result, "text/html; charset=utf-8")  # Flask's type of a bare body


def _with_body(body: Any, content_type: str) -> Answer:
    if not isinstance(body, Iterator):
        return Answer(200, content_type, _as_bytes(body))
    pieces = _as_pieces(body)
    first = next(pieces, b"")
    return Answer(200, content_type, first, pieces=pieces)


def _as_pieces(made: Iterator[Any]) -> Pieces:
    """Give the pieces as bytes, without empty ones; whoever closes this closes what the customer's code made."""
    try:
        for piece in made:
            if data := _as_bytes(piece):
                yield data
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    if isinstance(body, list | tuple):
        return b"".join(_as_bytes(piece) for piece in body)
    raise TypeError(
        "The function must return str or bytes, an iterator of them, or a pair of that and its content type; it "
        f"returned {type(body).__name__}."
    )


def _clean(value: str) -> str:
    if "\r" in value or "\n" in value:
        raise ValueError("A header of the response has a line break in it.")
    value.encode("latin-1")  # raises what the client is then told
    return value
