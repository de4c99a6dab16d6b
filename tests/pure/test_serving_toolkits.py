"""The manners of the containers around the customer's functions, without any framework."""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from moorage.serving import lookalikes
from moorage.serving.context import Context
from moorage.serving.handlers import Defaults, Handlers, UserError
from moorage.serving.media import UnsupportedFormatError
from moorage.serving.model import load
from moorage.serving.toolkits import neutral, onnx, python
from moorage.serving.toolkits.huggingface import HuggingFaceHandlers
from moorage.serving.toolkits.model_servers import ModelServerHandlers, body_limit, limit_of_several, refusal
from moorage.serving.toolkits.xgboost_data import parse_header
from moorage.serving.toolkits.xgboost_selection import Selection
from moorage.serving.wire import Answer, Request

DEFAULTS = Defaults(lambda _folder: "model", lambda body, _: body, lambda data, _: data, lambda said, _: said)


def _made(kind: type[Handlers], functions: Mapping[str, Callable[..., Any]], **named: Any) -> Handlers:
    module = cast("Any", SimpleNamespace(**functions))
    return kind(module, "/model", "application/json", DEFAULTS, **named)


def _ask(handlers: Handlers, body: bytes = b"x", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return handlers.answer(Request("POST", "/invocations", named, body, True))


# What sagemaker-inference does (PyTorch; scikit-learn and XGBoost with several models).


def test_content_type_is_what_was_asked_for_word_for_word() -> None:
    answer = _ask(_made(ModelServerHandlers, {}), accept="text/csv, application/json")
    assert answer == Answer(200, "text/csv, application/json", b"x")


def test_pair_of_body_and_type_says_its_own() -> None:
    handlers = _made(ModelServerHandlers, {"output_fn": lambda _said, _accept: (b"y", "text/plain")})
    assert _ask(handlers) == Answer(200, "text/plain", b"y")


def test_other_results_are_json_and_what_has_no_form_of_it_is_503() -> None:
    good = _made(ModelServerHandlers, {"transform_fn": lambda _m, _d, _c, _a: {"a": [1]}})
    bad = _made(ModelServerHandlers, {"transform_fn": lambda _m, _d, _c, _a: object()})
    assert _ask(good).body == json.dumps({"a": [1]}, indent=2).encode()
    assert _ask(bad) == refusal(503, "Unsupported model output data type.")


def test_exception_is_500_with_its_message_and_traceback() -> None:
    def predict_fn(_data: Any, _model: Any) -> None:
        raise ValueError("no rudder")

    answer = _ask(_made(ModelServerHandlers, {"predict_fn": predict_fn}))
    lines = answer.body.decode().splitlines()
    assert (answer.status, answer.content_type, lines[0], lines[-1]) == (500, "", "no rudder", "ValueError: no rudder")
    assert lines[1] == "Traceback (most recent call last):"


def test_error_of_the_toolkit_brings_its_status() -> None:
    def predict_fn(_data: Any, _model: Any) -> None:
        raise lookalikes.GenericInferenceToolkitError(429, "too many")

    answer = _ask(_made(ModelServerHandlers, {"predict_fn": predict_fn}))
    assert (answer.status, answer.body.partition(b"\n")[0]) == (429, b"too many")


def test_transform_fn_excludes_the_three_in_the_toolkit_s_words() -> None:
    with pytest.raises(UserError, match="Cannot use transform_fn implementation in conjunction with"):
        _made(ModelServerHandlers, {"transform_fn": print, "input_fn": print})


def test_model_is_prepared_before_and_warmed_up_after_it_is_loaded() -> None:
    said: list[Any] = []
    functions: dict[str, Callable[..., Any]] = {
        "pre_model_fn": lambda folder: said.append(folder),  # noqa: PLW0108 - its parameters are counted
        "model_fn": lambda folder, context: said.append(context.system_properties["model_dir"]) or "model",  # type: ignore[func-returns-value]
        "model_warmup_fn": lambda folder, model: said.append((folder, model)),
    }
    _made(ModelServerHandlers, functions)
    assert said == ["/model", "/model", ("/model", "model")]


def test_text_that_is_not_utf_8_is_an_error() -> None:
    answer = _ask(_made(ModelServerHandlers, {}), b"\xff", content_type="text/csv")
    assert (answer.status, b"can't decode byte 0xff" in answer.body) == (500, True)


def test_context_sets_status_and_headers_of_the_answer() -> None:
    def transform_fn(_model: Any, _data: Any, _type: str, _accept: str, context: Context) -> str:
        context.set_response_status(202, "Accepted")
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "trace")
        context.set_response_header(0, "Content-Length", "9")
        return "later"

    for kind in (Handlers, ModelServerHandlers):
        answer = _ask(_made(kind, {"transform_fn": transform_fn}))
        assert (answer.status, answer.body) == (202, b"later")
        assert list(answer.headers) == [("X-Amzn-SageMaker-Custom-Attributes", "trace")]


def test_headers_are_found_under_any_case() -> None:
    headers = Context("/model", {"accept": "text/csv"}).request_processor[0].get_request_properties()
    assert (headers["Accept"], headers.get("ACCEPT"), "accept" in headers) == ("text/csv", "text/csv", True)
    assert headers.get("Content-Type", "none") == "none"


@pytest.mark.parametrize("kind", [Handlers, ModelServerHandlers, HuggingFaceHandlers])
def test_larger_bodies_than_the_limit_are_413(kind: type[Handlers]) -> None:
    handlers = _made(kind, {}, body_bytes=3)
    assert [_ask(handlers, b"x" * size).status for size in (3, 4)] == [200, 413]


def test_limits_come_from_the_environment() -> None:
    assert body_limit({}, "TS_MAX_REQUEST_SIZE") == 6_553_500
    assert body_limit({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "2"}, "SAGEMAKER_MAX_PAYLOAD_IN_MB", unit=1024**2) == 2_097_152
    assert limit_of_several({"MAX_CONTENT_LENGTH": str(2**30)}) == 20 * 1024**2
    assert limit_of_several({"SAGEMAKER_MAX_REQUEST_SIZE": "7"}) == 7


def test_json_of_model_servers_escapes_as_gson_does() -> None:
    body = refusal(400, "it's <b> & ä=\u2028").body.decode()
    assert '"message": "it\\u0027s \\u003cb\\u003e \\u0026 ä\\u003d\\u2028"' in body
    assert json.loads(body)["message"] == "it's <b> & ä=\u2028"


# Hugging Face.


def test_every_exception_is_400_there() -> None:
    def predict_fn(_data: Any, _model: Any) -> None:
        raise KeyError("server's fault")

    answer = _ask(_made(HuggingFaceHandlers, {"predict_fn": predict_fn}))
    assert (answer.status, answer.content_type) == (400, "application/json")
    assert json.loads(answer.body)["message"] == '"server\'s fault"'


def test_functions_with_wrong_parameters_are_refused_when_they_are_loaded() -> None:
    with pytest.raises(TypeError, match="predict_fn definition takes 2 or 3 arguments but 1 were given"):
        _made(HuggingFaceHandlers, {"predict_fn": _only_one})


def _only_one(_data: Any) -> None: ...


_only_one.__name__ = "predict_fn"


# XGBoost.


@pytest.mark.parametrize(
    ("header", "divided"),
    [
        ("text/csv", ("text/csv", {})),
        ('text/csv ; label_size="1"; Charset=utf-8', ("text/csv", {"label_size": "1", "charset": "utf-8"})),
        ("", ("", {})),
    ],
)
def test_headers_are_divided_into_value_and_parameters(header: str, divided: tuple[str, dict[str, str]]) -> None:
    assert parse_header(header) == divided


def test_selection_of_an_objective_that_has_none_says_so() -> None:
    learner = {"objective": {"name": "rank:pairwise"}, "learner_model_param": {}}
    selection = Selection("predicted_score", {"learner": learner})
    with pytest.raises(ValueError, match="Objective `rank:pairwise` unsupported for selectable"):
        selection.encode([1.0], "application/json", batch=False)


# Moorage's own images.


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("text/csv", "text/csv"),
        ("image/png, */*;q=0.1", "application/json"),
        ("text/*", None),
        ("application/*", "application/json"),
    ],
)
def test_first_known_type_of_accept_is_chosen(accept: str, chosen: str | None) -> None:
    known = ("application/json", "text/csv")
    if chosen is None:
        with pytest.raises(neutral.NotAcceptable):
            neutral.choose(accept, known)
    else:
        assert neutral.choose(accept, known) == chosen


def test_iterators_are_streamed_by_every_toolkit() -> None:
    functions = {"transform_fn": lambda _m, _d, _c, _a: iter(["a", "b"])}
    for kind in (Handlers, ModelServerHandlers, HuggingFaceHandlers, neutral.NeutralHandlers):
        answer = _ask(_made(kind, functions))
        assert answer.pieces is not None
        assert (answer.body, list(answer.pieces)) == (b"a", [b"b"])


def _code(folder: Path, text: str) -> str:
    folder.joinpath("code").mkdir()
    folder.joinpath("code", "inference.py").write_text(text)
    return str(folder)


@pytest.fixture
def imports() -> Any:
    """Forget what a test's code has imported, and where it was looked for."""
    path, finders = list(sys.path), list(sys.meta_path)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    sys.modules.pop("inference", None)


@pytest.mark.usefixtures("imports")
def test_plain_python_wants_a_function(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="has neither transform_fn nor predict_fn"):
        load(_code(tmp_path, "x = 1\n"), {}, "python")


@pytest.mark.parametrize("toolkit", ["sklearn", "python"])
def test_missing_code_is_said_with_what_is_there_instead(toolkit: str, tmp_path: Path) -> None:
    tmp_path.joinpath("model.joblib").touch()
    with pytest.raises(NotImplementedError, match=r"At the top of the artefact are: model\.joblib"):
        load(str(tmp_path), {}, toolkit)


@pytest.mark.parametrize("toolkit", ["sklearn", "xgboost", "pytorch", "huggingface", "onnx", "python"])
def test_named_code_that_is_missing_is_refused(toolkit: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"SAGEMAKER_PROGRAM is serve\.py, but .* has no such file"):
        load(str(tmp_path), {"SAGEMAKER_PROGRAM": "serve.py"}, toolkit)


def test_unknown_toolkit_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no toolkit mxnet; there are sklearn, xgboost, pytorch"):
        load(str(tmp_path), {}, "mxnet")


@pytest.mark.parametrize("names", [(), ("a.onnx", "b.onnx")])
def test_onnx_wants_exactly_one_file(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        tmp_path.joinpath(name).touch()
    with pytest.raises(ValueError, match=r"Exactly one \.onnx file is required"):
        onnx.find(str(tmp_path))


def test_result_in_bytes_is_of_the_type_that_was_asked_for_first() -> None:
    assert python.encode(b"x", "image/png;q=1, */*") == (b"x", "image/png")
    assert python.encode("x", "*/*") == ("x", "text/plain")
    assert python.encode([1], "image/png") == ("[1]", "application/json")


# What AWS's containers have installed.


@pytest.fixture
def stand_ins(imports: Any) -> Any:
    """Let the lookalikes be imported in this process for a while."""
    lookalikes.install()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in {"sagemaker_containers", "mms"}]:
        del sys.modules[name]


@pytest.mark.usefixtures("stand_ins")
def test_lookalike_has_what_handlers_call() -> None:
    framework = importlib.import_module("sagemaker_containers.beta.framework")
    response = framework.worker.Response("a,b", mimetype="text/csv", status=201, headers={"X-A": "b"})
    handlers = _made(Handlers, {"transform_fn": lambda *_: response})
    assert _ask(handlers) == Answer(201, "text/csv; charset=utf-8", b"a,b", [("X-A", "b")])
    assert framework.errors.UnsupportedFormatError is UnsupportedFormatError


@pytest.mark.usefixtures("stand_ins")
def test_lookalike_says_what_it_has_not_and_how_to_get_it() -> None:
    env = importlib.import_module("sagemaker_containers.beta.framework.env")
    with pytest.raises(AttributeError, match=r"has no ServingEnv; add sagemaker-containers to code/requirements\.txt"):
        _ = env.ServingEnv
    with pytest.raises(ImportError, match=r"cannot import name 'PredictionExceptions' from 'mms\.service'"):
        exec("from mms.service import PredictionExceptions")


def test_package_that_is_there_goes_before_its_lookalike(
    stand_ins: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("mms").mkdir()
    tmp_path.joinpath("mms", "__init__.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.import_module("mms").real
