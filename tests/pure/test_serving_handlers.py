"""The customer's functions between a request and its answer."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from moorage.serving.handlers import Handlers, UserError
from moorage.serving.wire import Answer, Request


def _ask(body: bytes = b"x", *, functions: dict[str, Callable[..., Any]], **headers: str) -> Answer:
    module = cast("Any", SimpleNamespace(**{"model_fn": lambda _model_dir: "model", **functions}))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Handlers(module, "/model", "application/json").answer(Request("POST", "/invocations", named, body, True))


def test_the_three_functions_are_chained_and_told_the_types() -> None:
    said: list[Any] = []
    answer = _ask(
        b"\xff",
        functions={
            "input_fn": lambda data, content_type: said.append((data, content_type)) or "data",  # type: ignore[func-returns-value]
            "predict_fn": lambda data, model: (data, model),
            "output_fn": lambda prediction, accept: (f"{prediction} {accept}", accept),
        },
        content_type="image/png",
        accept="text/plain",
    )
    assert said == [(b"\xff", "image/png")]
    assert answer == Answer(200, "text/plain; charset=utf-8", b"('data', 'model') text/plain")


@pytest.mark.parametrize(("content_type", "given"), [("text/csv", "x"), ("application/json", "x"), ("a/b", b"x")])
def test_only_bodies_of_exactly_csv_and_json_are_given_as_text(content_type: str, given: str | bytes) -> None:
    answer = _ask(functions={"transform_fn": lambda _m, data, _c, _a: repr(data)}, content_type=content_type)
    assert answer.body.decode() == repr(given)


def test_a_missing_content_type_is_json_and_any_accept_the_default() -> None:
    answer = _ask(
        functions={"transform_fn": lambda _m, _d, content_type, accept: f"{content_type} {accept}"}, accept="*/*"
    )
    assert answer.body == b"application/json application/json"


def test_a_further_parameter_is_given_the_context() -> None:
    def model_fn(model_dir: str, context: Any) -> Any:
        return model_dir, context.system_properties["model_dir"]

    def transform_fn(model: Any, _data: Any, _content_type: str, _accept: str, context: Any) -> str:
        return f"{model} {context.get_request_header(0, 'X-One')} {context.get_all_request_header(0)}"

    answer = _ask(functions={"model_fn": model_fn, "transform_fn": transform_fn}, x_one="1")
    assert answer.body == b"('/model', '/model') 1 {'x-one': '1'}"


def test_a_parameter_with_a_default_of_its_own_keeps_it() -> None:
    def transform_fn(_m: Any, _d: Any, _c: str, _a: str, threshold: float = 0.5) -> str:
        return str(threshold)

    assert _ask(functions={"transform_fn": transform_fn}).body == b"0.5"


@pytest.mark.parametrize(
    ("returned", "answer"),
    [
        (("a", "text/csv"), Answer(200, "text/csv; charset=utf-8", b"a")),
        (("a", "text/csv; charset=latin-1"), Answer(200, "text/csv; charset=latin-1", b"a")),
        ((b"\x00", None), Answer(200, "application/json", b"\x00")),
        ("text", Answer(200, "text/html; charset=utf-8", b"text")),
        (bytearray(b"b"), Answer(200, "text/html; charset=utf-8", b"b")),
        ({"a": 1}, Answer(200, "application/json", b'{"a": 1}')),
        (
            SimpleNamespace(
                status_code=418,
                headers={"Content-Type": "a/b", "Content-Length": "9", "X-Amzn-SageMaker-Custom-Attributes": "c"},
                get_data=lambda: b"teapot",
            ),
            Answer(418, "a/b", b"teapot", [("X-Amzn-SageMaker-Custom-Attributes", "c")]),
        ),
    ],
)
def test_what_a_function_may_return(returned: Any, answer: Answer) -> None:
    assert _ask(functions={"transform_fn": lambda *_: returned}) == answer


@pytest.mark.parametrize(
    ("functions", "content_type"),
    [
        ({"transform_fn": lambda *_: iter(["a", b"b", "", "c"])}, "text/html; charset=utf-8"),
        ({"transform_fn": lambda *_: (iter(["a", b"b", "", "c"]), "text/plain")}, "text/plain; charset=utf-8"),
        (
            {
                "input_fn": lambda data, _: data,
                "predict_fn": lambda *_: (piece for piece in ("", "a", b"b", "c")),
                "output_fn": lambda prediction, _: (prediction, "text/event-stream"),
            },
            "text/event-stream; charset=utf-8",
        ),
        ({"input_fn": lambda data, _: data, "predict_fn": lambda *_: iter("abc")}, "application/json"),
    ],
    ids=["transform_fn", "with its type", "output_fn", "predict_fn alone"],
)
def test_iterator_is_an_answer_in_pieces(functions: dict[str, Callable[..., Any]], content_type: str) -> None:
    answer = _ask(functions=functions)
    assert answer.pieces is not None
    assert (answer.status, answer.content_type, answer.body) == (200, content_type, b"a")
    assert list(answer.pieces) == [b"b", b"c"]


def test_iterator_without_a_piece_is_an_empty_answer() -> None:
    answer = _ask(functions={"transform_fn": lambda *_: iter(())})
    assert answer.pieces is not None
    assert (answer.status, answer.body, list(answer.pieces)) == (200, b"", [])


def test_closing_the_pieces_closes_the_customer_s_generator() -> None:
    closed = []

    def generate() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    answer = _ask(functions={"transform_fn": lambda *_: generate()})
    assert answer.pieces is not None
    answer.pieces.close()
    assert closed == [True]


def test_failure_before_the_first_piece_is_a_500_and_a_later_one_breaks_the_answer() -> None:
    def generate(good: int) -> Iterator[str]:
        yield from "abc"[:good]
        raise ValueError("bad")

    at_once = _ask(functions={"transform_fn": lambda *_: generate(0)})
    later = _ask(functions={"transform_fn": lambda *_: generate(2)})
    assert (at_once.status, at_once.body, at_once.pieces) == (500, b"ValueError: bad", None)
    assert later.pieces is not None
    assert next(later.pieces) == b"b"
    with pytest.raises(ValueError, match="bad"):
        next(later.pieces)


@pytest.mark.parametrize("returned", [iter([1]), None, 1.5, ("a", "b\r\nSet-Cookie: c"), ("a", "\u2603")])
def test_what_it_may_not_return_is_a_500(returned: Any) -> None:
    assert _ask(functions={"transform_fn": lambda *_: returned}).status == 500


def test_an_exception_is_a_500_with_its_name_and_text_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def transform_fn(*_: Any) -> None:
        raise ValueError("one\n  two")

    answer = _ask(functions={"transform_fn": transform_fn})
    assert answer == Answer(500, "text/plain; charset=utf-8", b"ValueError: one two")
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_number_of_parameters_is_said() -> None:
    answer = _ask(functions={"transform_fn": lambda _only: ""})
    assert (answer.status, b"takes 1 positional argument but 4 were given" in answer.body) == (500, True)


def test_transform_fn_excludes_the_three() -> None:
    with pytest.raises(UserError, match="Cannot use transform_fn implementation with input_fn"):
        _ask(functions={"transform_fn": print, "predict_fn": print})
