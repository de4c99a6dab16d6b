"""Model servers to compare the whole product with: each serves the same scikit-learn model with one process.

They are set up as their documentation shows it, access logs off. Each has a virtual environment of its own, with the
same scikit-learn but where a server brings its own.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.machine import free_port
from benchmarks.gateway.venvs import have_environment

APPS = Path(__file__).with_name("apps")
_SCIKIT_LEARN = ("scikit-learn==1.7.2", "numpy<2.4")
Row = tuple[float, float, float, float]


@dataclass(frozen=True)
class Start:
    """How to start one; ``MODEL`` and ``PORT`` are in its environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where one is started."""

    venv: Path
    folder: Path
    """Empty, for files of its own."""
    port: int
    model: Path
    """The trained model, by joblib."""

    def program(self, name: str) -> str:
        """Give a program of its environment."""
        return str(self.venv / "bin" / name)


@dataclass(frozen=True)
class ModelServer:
    """One to compare with."""

    title: str
    package: str
    """Whose version is shown."""
    packages: tuple[str, ...]
    start: Callable[[Place], Start]
    body: Callable[[Row], object]
    """What asks for one row, as JSON."""
    path: str = "/invocations"
    reach: str = "> 1x"

    def prepare(self, name: str, folder: Path) -> Place:
        """Have its environment, and train the model with it; raises NotMeasured."""
        venv = have_environment(name, self.packages)
        model = folder / "model.joblib"
        train(str(venv / "bin/python"), model)
        return Place(venv, folder, free_port(), model)


def train(python: str, model: Path) -> None:
    """Train the model with the scikit-learn of that Python."""
    subprocess.run([python, str(APPS / "train.py"), str(model)], check=True, capture_output=True)


def _fastapi(place: Place) -> Start:
    command = [place.program("uvicorn"), "--app-dir", str(APPS), "--host", "127.0.0.1", "--port", str(place.port)]
    return Start([*command, "--no-access-log", "--log-level", "warning", "fastapi_app:app"])


def _litserve(place: Place) -> Start:
    return Start([place.program("python"), str(APPS / "litserve_app.py")])


def _mlserver(place: Place) -> Start:
    settings = {
        "host": "127.0.0.1",
        "http_port": place.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    model = {"name": "iris", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": str(place.model)}}
    (place.folder / "settings.json").write_text(json.dumps(settings))
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return Start([place.program("mlserver"), "start", str(place.folder)])


def _bentoml(place: Place) -> Start:
    command = [place.program("bentoml"), "serve", "bentoml_app:Iris", "--working-dir", str(APPS)]
    environment = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(place.folder), "PYTHONPATH": str(APPS)}
    return Start([*command, "--host", "127.0.0.1", "--port", str(place.port)], environment)


def _ray(place: Place) -> Start:
    return Start([place.program("python"), str(APPS / "ray_app.py")], {"RAY_USAGE_STATS_ENABLED": "0"})


def _mlflow(place: Place) -> Start:
    saved = place.folder / "mlflow"
    subprocess.run(
        [place.program("python"), str(APPS / "mlflow_save.py"), str(place.model), str(saved)],
        check=True,
        capture_output=True,
    )
    command = [place.program("mlflow"), "models", "serve", "-m", str(saved), "--env-manager", "local"]
    path = f"{place.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return Start([*command, "-h", "127.0.0.1", "-p", str(place.port), "-w", "1"], {"PATH": path})


def _instances(row: Row) -> object:
    return {"instances": [row]}


def _tensor(row: Row) -> object:
    return {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]}


MODEL_SERVERS = {
    "fastapi": ModelServer(
        "FastAPI by hand",
        "fastapi",
        ("fastapi", "uvicorn", "uvloop", "httptools", *_SCIKIT_LEARN),
        _fastapi,
        _instances,
        reach="",
    ),
    "litserve": ModelServer(
        "LitServe", "litserve", ("litserve", *_SCIKIT_LEARN), _litserve, _instances, path="/predict"
    ),
    "mlserver": ModelServer(
        "MLServer",
        "mlserver",
        ("mlserver", "mlserver-sklearn", "scikit-learn"),
        _mlserver,
        _tensor,
        path="/v2/models/iris/infer",
    ),
    "bentoml": ModelServer("BentoML", "bentoml", ("bentoml", *_SCIKIT_LEARN), _bentoml, lambda row: {"rows": [row]}),
    "ray": ModelServer("Ray Serve", "ray", ("ray[serve]", *_SCIKIT_LEARN), _ray, _instances),
    "mlflow": ModelServer("MLflow", "mlflow", ("mlflow", *_SCIKIT_LEARN), _mlflow, lambda row: {"inputs": [row]}),
}
"""By what ``--peers`` calls them."""
