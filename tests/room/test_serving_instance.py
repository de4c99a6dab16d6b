"""The built-in model server with a real scikit-learn model, over real sockets, in a process of its own."""

import contextlib
import io
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
from tests.support.model_server import Instance, Start, start

from moorage.engine.environments import Environment

__all__ = ["start"]

TRAIN = """
import sys, joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
rows, classes = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500).fit(rows, classes)
joblib.dump(model, sys.argv[1])
print(model.predict(rows).tolist())
print(rows.tolist())
"""

SKLEARN_CODE = """
import joblib, os
def model_fn(model_dir):
    return joblib.load(os.path.join(model_dir, "model.joblib"))
"""

SLOW_CODE = """
import threading, time
INSIDE = threading.Lock()
def model_fn(model_dir):
    return threading.get_ident()
def transform_fn(model, data, content_type, accept):
    assert threading.get_ident() == model, "another thread"
    assert INSIDE.acquire(blocking=False), "two at once"
    print("begun", flush=True)
    time.sleep(float(data))
    INSIDE.release()
    return data, "text/plain"
"""

ECHO_CODE = """
def model_fn(model_dir):
    return None
def transform_fn(model, data, content_type, accept):
    return data, "application/octet-stream"
"""

ASKS_ITSELF_CODE = """
import select, socket
CLIENTS = []
def model_fn(model_dir):
    return None
def transform_fn(model, data, content_type, accept):
    if data.isdigit():
        for body in (b"small", b"large" * 1000):
            CLIENTS.append(socket.create_connection(("127.0.0.1", int(data))))
            CLIENTS[-1].sendall(b"POST /invocations HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n%b" % (len(body), body))
    elif data != "small":
        print("before the large body:", bool(select.select(CLIENTS[:1], [], [], 0)[0]), flush=True)
    return data, "text/plain"
"""

STREAM_CODE = """
import time
def model_fn(model_dir):
    return None
def transform_fn(model, data, content_type, accept):
    return generate(*data.split()), "text/plain"
def generate(pause, *pieces):
    try:
        for piece in pieces:
            if piece == "raise":
                raise ValueError("on purpose")
            print("makes", piece[:9], flush=True)
            yield piece * 50_000 if piece.startswith("large") else piece
            time.sleep(float(pause))
        print("complete", flush=True)
    finally:
        print("closed", flush=True)
"""

TWO_ROWS = b"5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"

pytestmark = pytest.mark.slow  # the first test of a machine builds the environment of scikit-learn


@pytest.fixture(scope="module")
def iris(sklearn_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Train a model in the environment: its folder, what it says of each row, and the rows."""
    folder = tmp_path_factory.mktemp("iris")
    said = subprocess.run(
        [sklearn_environment.python, "-c", TRAIN, folder / "model.joblib"], check=True, capture_output=True, timeout=60
    )
    predictions, rows = map(eval, said.stdout.decode().splitlines())
    return folder, predictions, rows


@pytest.fixture
def sklearn_instance(start: Start, sklearn_environment: Environment, iris: tuple[Path, Any, Any]) -> Instance:
    """Serve the trained model with the container's defaults."""
    return start(SKLEARN_CODE, iris[0], str(sklearn_environment.python), OMP_NUM_THREADS="1")


def test_predictions_equal_those_of_the_model_itself(sklearn_instance: Instance, iris: tuple[Path, Any, Any]) -> None:
    _folder, predictions, rows = iris
    body = "\n".join(",".join(map(str, row)) for row in rows)
    status, _type, answer = sklearn_instance.post(body.encode(), Content_Type="text/csv", Accept="text/csv")
    assert (status, answer.decode().split()) == (200, [str(value) for value in predictions])


def test_content_type_may_be_in_the_header_that_some_services_use(sklearn_instance: Instance) -> None:
    answer = sklearn_instance.post(b"[[5.1,3.5,1.4,0.2]]", ContentType="application/json", Content_Type="image/png")
    assert answer == (200, "application/json", b"[0]")


def test_traceback_of_a_failed_invocation_is_in_the_log(sklearn_instance: Instance) -> None:
    assert sklearn_instance.post(b"[[1,", Content_Type="application/json")[0] == 500
    sklearn_instance.wait_for_log("Traceback (most recent call last)")


def test_default_accept_comes_from_the_environment(
    start: Start, sklearn_environment: Environment, iris: tuple[Path, Any, Any]
) -> None:
    python = str(sklearn_environment.python)
    instance = start(SKLEARN_CODE, iris[0], python, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")
    assert instance.post(TWO_ROWS, Content_Type="text/csv")[1:] == ("text/csv; charset=utf-8", b"0\n2\n")


def test_ping_and_new_connections_are_answered_while_an_invocation_runs(start: Start) -> None:
    instance = start(SLOW_CODE)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(instance.post(b"2")))
    asking.start()
    instance.wait_for_log("begun")
    begun = time.monotonic()
    assert [instance.get()[0] for _ in range(5)] == [200] * 5
    assert time.monotonic() - begun < 1.5
    assert not answers
    asking.join()
    assert answers == [(200, "text/plain; charset=utf-8", b"2")]


def test_invocations_run_one_at_a_time_in_the_thread_that_loaded_the_model(start: Start) -> None:
    instance = start(SLOW_CODE)
    answers: list[int] = []
    asking = [threading.Thread(target=lambda: answers.append(instance.post(b"0.15")[0])) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert answers == [200] * 8


def test_sigterm_finishes_what_runs_and_ends_with_0(start: Start) -> None:
    instance = start(SLOW_CODE)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(instance.post(b"0.5")))
    with instance.connection() as idle:
        idle.request("GET", "/ping")
        idle.getresponse().read()
        asking.start()
        instance.wait_for_log("begun")
        instance.process.send_signal(signal.SIGTERM)
        asking.join()
    assert (instance.process.wait(10), answers) == (0, [(200, "text/plain; charset=utf-8", b"0.5")])


def test_pieces_are_sent_while_the_next_is_made_and_pings_answered(start: Start) -> None:
    instance = start(STREAM_CODE)
    with instance.connection() as connection:
        connection.request("POST", "/invocations", b"0.5 one two three", {"Content-Type": "text/csv"})
        response = connection.getresponse()
        seen = []
        for _ in range(3):
            seen.append(response.read1())
            began = time.monotonic()
            assert instance.get()[0] == 200
            assert time.monotonic() - began < 0.45
            assert "complete" not in instance.log.read_text()
        rest = response.read()
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert (seen, rest) == ([b"one", b"two", b"three"], b"")


def test_connection_is_kept_after_an_answer_in_pieces(start: Start) -> None:
    instance = start(STREAM_CODE)
    with instance.connection() as connection:
        for body, answer in ((b"0 a b", b"ab"), (b"0", b""), (b"0 large c", b"large" * 50_000 + b"c")):
            connection.request("POST", "/invocations", body, {"Content-Type": "text/csv"})
            assert connection.getresponse().read() == answer
            connection.request("GET", "/ping")
            assert connection.getresponse().read() == b""


def test_request_behind_an_answer_in_pieces_waits_for_its_end(start: Start) -> None:
    instance = start(STREAM_CODE)
    request = b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 7\r\n\r\n0.1 a b"
    with socket.create_connection(("127.0.0.1", instance.port), 10) as client:
        client.sendall(request)
        instance.wait_for_log("makes a")
        client.sendall(request + b"GET /none HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(1 << 20), b""))
    assert answers.count(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\nHTTP/1.1 ") == 2


def test_failure_in_mid_answer_breaks_the_connection_and_only_that(start: Start) -> None:
    instance = start(STREAM_CODE)
    with instance.connection() as connection:
        connection.request("POST", "/invocations", b"0 a raise", {"Content-Type": "text/csv"})
        response = connection.getresponse()
        with pytest.raises(IncompleteRead) as caught:
            response.read()
    instance.wait_for_log("ValueError: on purpose")
    assert caught.value.partial == b"a"
    assert instance.post(b"0 b", Content_Type="text/csv")[2] == b"b"


def test_peer_that_goes_in_mid_answer_closes_the_generator(start: Start) -> None:
    instance = start(STREAM_CODE)
    with instance.connection() as connection:
        connection.request("POST", "/invocations", b"0.05 " + b"x " * 1000, {"Content-Type": "text/csv"})
        connection.getresponse().read1()
    instance.wait_for_log("closed")
    assert "complete" not in instance.log.read_text()
    assert instance.post(b"0 b", Content_Type="text/csv")[2] == b"b"


def test_peer_that_does_not_read_slows_the_generator_down(start: Start) -> None:
    instance = start(STREAM_CODE)
    with socket.create_connection(("127.0.0.1", instance.port), 10) as client:
        body = b"0 " + b" ".join(b"large%03d" % number for number in range(300))
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        client.sendall(body)
        instance.wait_for_log("makes large000")
        seen = [-1, 0]
        while seen[-1] != seen[-2]:
            began = time.monotonic()
            while time.monotonic() < began + 0.3:
                assert instance.get()[0] == 200
            seen.append(instance.log.read_text().count("makes"))
        made = seen[-1]
        received = 0
        while received < 300 * 8 * 50_000:
            received += len(client.recv(1 << 20))
    assert made < 150
    instance.wait_for_log("complete")


def test_peer_of_http_1_0_reads_pieces_up_to_the_end(start: Start) -> None:
    instance = start(STREAM_CODE)
    with socket.create_connection(("127.0.0.1", instance.port), 10) as client:
        client.sendall(b"POST /invocations HTTP/1.0\r\nContent-Type: text/csv\r\nContent-Length: 5\r\n\r\n0 a b")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.endswith(b"\r\n\r\nab")
    assert b"Transfer-Encoding" not in answer
    assert b"Content-Length" not in answer


def test_sigterm_finishes_an_answer_in_pieces(start: Start) -> None:
    instance = start(STREAM_CODE)
    with instance.connection() as connection:
        connection.request("POST", "/invocations", b"0.2 a b c", {"Content-Type": "text/csv"})
        response = connection.getresponse()
        instance.process.send_signal(signal.SIGTERM)
        assert response.read() == b"abc"
    assert instance.process.wait(10) == 0


def test_invocation_whose_client_has_gone_is_not_computed(start: Start) -> None:
    instance = start(SLOW_CODE)
    first = threading.Thread(target=lambda: instance.post(b"1"))
    first.start()
    instance.wait_for_log("begun")
    with socket.create_connection(("127.0.0.1", instance.port), 10) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 1\r\n\r\n0")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.join()
    assert instance.post(b"0")[0] == 200
    assert instance.log.read_text().count("begun") == 2


def test_sigterm_ends_an_idle_server_at_once(start: Start) -> None:
    instance = start(ECHO_CODE)
    assert instance.get()[0] == 200
    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(5) == 0


def test_a_connection_serves_many_requests_of_every_size(start: Start) -> None:
    with start(ECHO_CODE).connection() as connection:
        for size in (0, 1, 65_535, 65_536, 5_000_000, 26_214_400, 3):
            body = os.urandom(size)
            connection.request("POST", "/invocations", body, {"Content-Type": "application/octet-stream"})
            assert connection.getresponse().read() == body


def test_a_body_may_come_in_chunks(start: Start) -> None:
    pieces = [os.urandom(size) for size in (1, 70_000, 3)]
    with start(ECHO_CODE).connection() as connection:
        connection.request("POST", "/invocations", iter(pieces), {"Content-Type": "x/y"}, encode_chunked=True)
        assert connection.getresponse().read() == b"".join(pieces)


def test_a_client_that_waits_for_continue_is_told_to(start: Start) -> None:
    with socket.create_connection(("127.0.0.1", start(ECHO_CODE).port), 10) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert client.recv(1000).endswith(b"\r\n\r\nok")


def test_thousands_of_requests_sent_at_once_are_answered_in_order(start: Start) -> None:
    with socket.create_connection(("127.0.0.1", start(ECHO_CODE).port), 10) as client:
        requests = [b"POST /invocations HTTP/1.1\r\nContent-Length: 4\r\n\r\n%04d" % n for n in range(2000)]
        pings = [b"GET /ping HTTP/1.1\r\n\r\n"] * 3000
        client.sendall(b"".join(requests[:1000] + pings))
        client.sendall(b"".join(requests[1000:]) + b"GET /none HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(1 << 20), b""))
    bodies = [int(part[:4]) for part in answers.split(b"Content-Length: 4\r\n\r\n")[1:]]
    assert (bodies, answers.count(b"Content-Length: 0"), answers[-2:]) == (list(range(2000)), 3000, b"{}")


def test_a_peer_that_goes_in_the_middle_harms_nobody(start: Start) -> None:
    instance = start(SLOW_CODE)
    for text in (b"POST /invocations HTTP/1.1\r\nContent-Length: 3\r\n\r\n0", b"GET /pi", b""):
        with socket.create_connection(("127.0.0.1", instance.port), 10) as client:
            client.sendall(text)
    with socket.create_connection(("127.0.0.1", instance.port), 10) as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: 3\r\n\r\n0.3")
        instance.wait_for_log("begun")
    assert instance.post(b"0")[0] == 200


def _first_answer(instance: Instance, bodies: list[bytes], patience_seconds: float) -> bytes:
    """Let a server find a request of each connection in one turn; gives the answer to the first, if it is in time."""
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", instance.port), patience_seconds))
            for _ in bodies
        ]
        for client in clients:
            client.sendall(b"GET /ping HTTP/1.1\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        instance.wait_for_state("S")  # has looked at all of them since
        instance.process.send_signal(signal.SIGSTOP)
        instance.wait_for_state("T")
        for client, body in zip(clients, bodies, strict=True):
            client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        instance.process.send_signal(signal.SIGCONT)
        return clients[0].recv(65536)


def test_an_answer_does_not_wait_for_the_hanging_invocation_behind_it(start: Start) -> None:
    assert _first_answer(start(SLOW_CODE), [b"0", b"4"], patience_seconds=2).endswith(b"\r\n\r\n0")


def test_an_answer_does_not_wait_for_an_invocation_with_a_large_body(start: Start) -> None:
    instance = start(ASKS_ITSELF_CODE)
    instance.post(b"%d" % instance.port)
    instance.wait_for_log("before the large body: True")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /ping HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 413),
        (b"GET /ping HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (b"GET /execution-parameters HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"PUT /invocations HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
    ],
)
def test_what_is_not_a_request_is_refused_and_cut_off(start: Start, request_text: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", start(ECHO_CODE).port), 10) as client:
        client.sendall(request_text)
        answer = io.BytesIO()
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(65536):
                answer.write(piece)
    assert answer.getvalue().startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def model_fn(d): raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("x = 1", "NotImplementedError: Please provide a model_fn implementation."),
        (
            "def model_fn(d): pass\ndef transform_fn(*a): pass\ndef input_fn(*a): pass",
            "Cannot use transform_fn implementation with input_fn, predict_fn, and/or output_fn",
        ),
    ],
)
def test_a_model_that_cannot_be_loaded_ends_the_process_with_its_traceback_in_the_log(
    start: Start, code: str, said: str
) -> None:
    instance = start(code)
    assert instance.process.wait(20) == 1
    assert said in instance.log.read_text()


def test_an_artefact_without_code_fails_as_the_container_does(start: Start, tmp_path: Path) -> None:
    instance = start("", SAGEMAKER_SUBMIT_DIRECTORY="/opt/ml/model")
    assert instance.process.wait(20) == 1
    assert "Please provide a model_fn implementation" in instance.log.read_text()
    assert "/inference.py. At the top of the artefact are: code, log.\n" in instance.log.read_text()
