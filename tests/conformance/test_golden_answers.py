"""The built-in server against the golden tables of AWS's containers, with the real frameworks, over real sockets."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.golden import PAGE, ROWS, TABLES, Row, with_tables
from tests.support.golden_models import MODELS
from tests.support.model_server import Instance, serving, write_code

pytestmark = [
    pytest.mark.slow,  # frameworks take seconds to import; the first test of a machine installs them
    pytest.mark.timeout(900),
]

Served = Callable[[str], Instance]

PONGS = dict.fromkeys(("sklearn", "xgboost", "onnx", "python"), b"")
HEALTHY = b'{\n  "status": "Healthy"\n}\n'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a golden model by its name; one that is served already goes on."""
    with contextlib.ExitStack() as started:
        running: dict[str, Instance] = {}

        def serve(name: str) -> Instance:
            if name not in running:
                model = MODELS[name]
                folder = tmp_path_factory.mktemp("model")
                model.make(folder)
                if model.code:
                    write_code(folder, model.code)
                log = folder.with_name(f"{folder.name}.log")
                made = serving(folder, log, model.python(), model.toolkit, OMP_NUM_THREADS="1", **model.variables)
                running[name] = started.enter_context(made)
                if model.variables.get("SAGEMAKER_MULTI_MODEL") == "true":
                    running[name].load(folder)
            return running[name]

        yield serve


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}: {row.what}")
def test_request_is_answered_as_in_the_table(row: Row, served: Served) -> None:
    wishes = {"Content_Type": row.given, "Accept": row.accept}
    headers = {name: value for name, value in wishes.items() if value is not None}
    status, content_type, body = served(row.model).post(row.body, **headers)
    assert (status, content_type) == (row.status, row.content_type), body
    assert row.fits(body), body


@pytest.mark.parametrize("model", [model for model, _rows in TABLES.values()])
def test_ping_is_the_container_s(model: str, served: Served) -> None:
    status, content_type, body = served(model).get()
    assert (status, content_type, body) == (200, "application/json", PONGS.get(model, HEALTHY))


def test_page_has_the_tables() -> None:
    page = Path(PAGE).read_text(encoding="utf-8")
    assert page == with_tables(page), "python -m tests.support.golden writes them anew"
