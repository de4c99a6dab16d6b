"""The built-in server of many models over real sockets: the contract of multi-model containers, a process a model."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.support.model_server import LOAD

import moorage.serving

START = f"""{LOAD}
import resource
if sys.argv[3:]:
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]), int(sys.argv[3])))
from moorage_serving.instance import serve
serve(socket.socket(fileno=int(sys.argv[2])), "/nowhere", "sklearn")
"""

ECHO = """
import os, time
def model_fn(model_dir):
    return open(os.path.join(model_dir, "name")).read()
def transform_fn(model, data, content_type, accept):
    if data == "pid":
        return str(os.getpid()), "text/plain"
    if data == "die":
        os._exit(7)
    if data.startswith("sleep"):
        print("sleeping", flush=True)
        time.sleep(float(data.split()[1]))
    return f"{model} says {data}", "text/plain"
"""

MIB = 2**20
LARGE = f"""
def model_fn(model_dir):
    return bytearray(int(open(model_dir + "/name").read()) * {MIB})
def transform_fn(model, data, content_type, accept):
    return str(len(model)), "text/plain"
"""

Answer = tuple[int, Any]


class Base:
    """A base process, its socket, its log and the folder of its models."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, folder: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.folder = folder

    def connect(self) -> "contextlib.closing[HTTPConnection]":
        return contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=20))

    def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        with self.connect() as connection:
            return say(connection, method, path, body)

    def put(self, name: str, text: str = "", code: str = ECHO) -> str:
        """Write a model's files, as ``POST /models`` wants them; gives the body of that."""
        folder = self.folder / name / "model"
        folder.joinpath("code").mkdir(parents=True, exist_ok=True)
        folder.joinpath("code", "inference.py").write_text(textwrap.dedent(code))
        folder.joinpath("name").write_text(text or name)
        return json.dumps({"model_name": name, "url": str(folder)})

    def load(self, name: str, text: str = "", code: str = ECHO) -> Answer:
        return self.ask("POST", "/models", self.put(name, text, code).encode())

    def invoke(self, name: str, body: str) -> Answer:
        return self.ask("POST", f"/models/{name}/invoke", body.encode())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)


def say(connection: HTTPConnection, method: str, path: str, body: bytes = b"") -> Answer:
    """Ask on a connection; an answer in JSON is read."""
    connection.request(method, path, body, {"Content-Type": "text/csv"})
    response = connection.getresponse()
    text = response.read().decode()
    return response.status, json.loads(text) if response.headers["Content-Type"] == "application/json" else text


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Base]]:
    with contextlib.ExitStack() as started:

        def launch(memory_bytes: int | None = None, **variables: str) -> Base:
            listener = started.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
            log = tmp_path / "log"
            arguments = [
                moorage.serving.__path__[0],
                str(listener.fileno()),
                *([str(memory_bytes)] if memory_bytes else []),
            ]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-c", START, *arguments],
                    pass_fds=[listener.fileno()],
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={"PATH": os.environ["PATH"], "SAGEMAKER_MULTI_MODEL": "true", **variables},
                )
            started.callback(_end, process)
            return Base(process, listener.getsockname()[1], log, tmp_path / "models")

        yield launch


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def base(start: Callable[..., Base]) -> Base:
    return start()


def test_models_are_loaded_invoked_listed_and_unloaded(base: Base) -> None:
    assert base.ask("GET", "/ping")[0] == 200
    assert base.ask("GET", "/models") == (200, {"models": []})
    assert base.load("a")[0] == 200
    assert base.load("b")[0] == 200
    assert base.invoke("a", "x") == (200, "a says x")
    assert base.invoke("b", "x") == (200, "b says x")
    url = str(base.folder / "a" / "model")
    assert base.ask("GET", "/models/a") == (200, {"modelName": "a", "modelUrl": url})
    assert [model["modelName"] for model in base.ask("GET", "/models")[1]["models"]] == ["a", "b"]
    assert base.ask("DELETE", "/models/a")[0] == 200
    assert [model["modelName"] for model in base.ask("GET", "/models")[1]["models"]] == ["b"]
    assert base.invoke("a", "x")[0] == 404
    assert base.ask("GET", "/models/a")[0] == 404
    assert base.ask("DELETE", "/models/a")[0] == 404
    assert base.load("a", "another")[0] == 200
    assert base.invoke("a", "x") == (200, "another says x")


def test_a_model_that_is_there_is_409_in_the_words_of_the_multi_model_server(base: Base) -> None:
    assert base.load("a")[0] == 200
    assert base.load("a") == (
        409,
        {"code": 409, "type": "ConflictStatusException", "message": "Model a is already registered."},
    )


def test_list_has_pages(base: Base) -> None:
    for name in "abcde":
        assert base.load(name)[0] == 200
    seen: list[str] = []
    token: str | None = ""
    while token is not None:
        query = f"&next_page_token={token}" if token else ""
        status, page = base.ask("GET", f"/models?limit=2{query}")
        assert status == 200
        seen += [model["modelName"] for model in page["models"]]
        token = page.get("nextPageToken")
    assert seen == list("abcde")
    assert base.ask("GET", "/models?limit=x")[0] == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model_name": 1, "url": "x"}', b'{"model_name": "a/b", "url": ""}']
)
def test_a_load_that_says_nothing_sensible_is_400(base: Base, body: bytes) -> None:
    assert base.ask("POST", "/models", body)[0] == 400


def test_what_is_not_of_the_contract_is_404_and_harms_nobody(base: Base) -> None:
    for method, path in (("POST", "/invocations"), ("PUT", "/models"), ("GET", "/models/a/b"), ("GET", "/modelsx")):
        assert base.ask(method, path, b"x")[0] == 404, path
    with socket.create_connection(("127.0.0.1", base.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400 ")
    assert base.ask("GET", "/ping")[0] == 200


def test_each_model_is_a_process_and_its_crash_is_only_its_own(base: Base) -> None:
    base.load("a")
    base.load("b")
    pids = {base.invoke(name, "pid")[1] for name in "ab"}
    assert len(pids) == 2
    with pytest.raises((ConnectionError, OSError)):
        base.invoke("a", "die")
    base.wait_until(lambda: base.ask("GET", "/models/a")[0] == 404)
    assert base.invoke("a", "x")[0] == 404
    assert base.invoke("b", "x") == (200, "b says x")
    assert "The process of the model a has ended: exit code 7." in base.log.read_text()
    assert base.load("a")[0] == 200
    os.kill(int(base.invoke("b", "pid")[1]), signal.SIGKILL)
    base.wait_until(lambda: base.ask("GET", "/models/b")[0] == 404)
    assert base.invoke("a", "x") == (200, "a says x")


def test_one_connection_goes_from_model_to_model_and_back(base: Base) -> None:
    base.load("a")
    base.load("b")
    with base.connect() as connection:
        for _ in range(3):
            for name in "aab":
                assert say(connection, "POST", f"/models/{name}/invoke", b"x") == (200, f"{name} says x")
            assert say(connection, "GET", "/ping")[0] == 200
            assert say(connection, "POST", "/models/c/invoke", b"x")[0] == 404


def test_requests_in_any_pieces_and_several_at_once(base: Base) -> None:
    base.load("a")
    base.load("b")
    request = b"POST /models/%b/invoke HTTP/1.1\r\nContent-Length: 1\r\nContent-Type: text/csv\r\n\r\nx"
    text = (request % b"a") + (request % b"b") + (request % b"a")
    for cut in (1, 5, 13, 14, 20, 30, len(text) - 1, len(text) // 2):
        with socket.create_connection(("127.0.0.1", base.port), timeout=20) as raw:
            raw.sendall(text[:cut])
            time.sleep(0.01)  # so that the pieces are seen as such; the answers are the same without
            raw.sendall(text[cut:])
            answers = b""
            while answers.count(b"says x") < 3:
                answers += raw.recv(65536)
            assert re.findall(rb". says x", answers) == [b"a says x", b"b says x", b"a says x"]


def test_large_bodies_arrive_whole(base: Base) -> None:
    base.load("a")
    body = b"y" * (5 * MIB)
    with base.connect() as connection:
        for _ in range(2):
            status, answer = say(connection, "POST", "/models/a/invoke", body)
            assert (status, len(answer)) == (200, len(body) + len("a says "))
            assert say(connection, "GET", "/ping")[0] == 200


def test_pings_and_other_models_do_not_wait_for_one_that_computes(base: Base) -> None:
    base.load("a")
    base.load("b")
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(base.invoke("a", "sleep 1.5")))
    asking.start()
    base.wait_until(lambda: "sleeping" in base.log.read_text())
    begun = time.monotonic()
    assert base.ask("GET", "/ping")[0] == 200
    assert base.invoke("b", "x") == (200, "b says x")
    assert time.monotonic() - begun < 1
    assert not answers
    asking.join()
    assert answers == [(200, "a says sleep 1.5")]


def test_many_callers_of_many_models(base: Base) -> None:
    names = [f"m{number}" for number in range(12)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert {status for status, _ in pool.map(base.load, names)} == {200}
        calls = [(names[number % 12], str(number)) for number in range(240)]
        answers = list(pool.map(lambda call: base.invoke(*call), calls))
    assert answers == [(200, f"{name} says {text}") for name, text in calls]


def test_a_model_that_cannot_be_loaded_is_500_with_its_words(base: Base) -> None:
    status, answer = base.load("a", code="def model_fn(model_dir):\n    raise ValueError('no rudder')\n")
    assert (status, answer["message"]) == (500, "ValueError: no rudder")
    assert "Traceback" in base.log.read_text()
    status, answer = base.load("b", code="import os\nos._exit(3)\n")
    assert (status, answer["message"]) == (500, "The process of the model b has ended: exit code 3.")
    assert base.ask("GET", "/models") == (200, {"models": []})
    assert base.load("a")[0] == 200


def test_second_caller_of_a_load_that_goes_on_waits_for_it(base: Base) -> None:
    code = "import time\nprint('loading', flush=True)\ntime.sleep(0.5)\n" + ECHO
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(base.load, "a", "a", code)
        base.wait_until(lambda: "loading" in base.log.read_text())
        assert base.ask("GET", "/models/a")[0] == 404
        assert base.invoke("a", "x")[0] == 404
        assert base.load("a", "a", code)[0] == 409
        assert first.result()[0] == 200


def test_a_model_that_does_not_fit_beside_the_others_is_507(start: Callable[..., Base]) -> None:
    base = start(memory_bytes=400 * MIB)
    assert base.load("a", "150", LARGE)[0] == 200
    assert base.load("b", "150", LARGE)[0] == 200
    assert base.load("c", "150", LARGE)[0] == 507
    assert base.invoke("a", "x") == (200, str(150 * MIB))
    assert base.ask("DELETE", "/models/a")[0] == 200
    assert base.load("c", "150", LARGE)[0] == 200
    assert base.load("a", "150", LARGE)[0] == 507
    assert base.load("d", "1000", LARGE)[0] == 507, "a MemoryError is too little memory as well"
    assert [model["modelName"] for model in base.ask("GET", "/models")[1]["models"]] == ["b", "c"]


def test_batches_are_asked_for_of_each_model_and_a_wrong_number_is_told_at_once(start: Callable[..., Base]) -> None:
    base = start(MOORAGE_MAX_BATCH_SIZE="4")
    assert base.load("a")[0] == 200
    assert base.invoke("a", "x") == (200, "a says x")
    assert "No batches are made" in base.log.read_text()
    wrong = start(MOORAGE_MAX_BATCH_SIZE="four")
    assert wrong.process.wait(10) == 1
    assert "MOORAGE_MAX_BATCH_SIZE" in wrong.log.read_text()


def test_a_model_that_is_killed_while_it_loads_has_found_too_little_memory(base: Base) -> None:
    code = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    assert base.load("a", "a", code)[0] == 507


def test_sigterm_ends_all_after_what_has_begun(base: Base) -> None:
    base.load("a")
    pid = int(base.invoke("a", "pid")[1])
    base.load("b")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(base.invoke, "b", "sleep 0.5")
        base.wait_until(lambda: "sleeping" in base.log.read_text())
        base.process.send_signal(signal.SIGTERM)
        assert asked.result() == (200, "b says sleep 0.5")
    assert base.process.wait(10) == 0
    assert not Path(f"/proc/{pid}").exists()


def test_models_end_with_the_base_process(base: Base) -> None:
    base.load("a")
    pid = int(base.invoke("a", "pid")[1])
    base.process.kill()
    base.process.wait()
    base.wait_until(lambda: _ended(pid))


def _ended(pid: int) -> bool:
    """A killed process whose new parent has not taken note of it is a zombie."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
