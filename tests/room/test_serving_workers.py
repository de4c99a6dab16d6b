"""Workers of an instance: processes with one model at one listener, watched by a foreman."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.support.model_server import Instance, Start, start

__all__ = ["start"]

CODE = """
import os, signal, threading, time
print("loaded by", os.getpid(), flush=True)
def model_fn(model_dir):
    return os.getpid()
def transform_fn(model, data, content_type, accept, context):
    if len(data) > 1000:
        return f"{len(data)} {context.get_request_header(0, 'custom-header')}"
    words = data.decode().split()
    if words[0] == "until":
        print("begun in", os.getpid(), flush=True)
        while not os.path.exists(words[1]):
            time.sleep(0.005)
    elif words[0] == "die":
        os.kill(os.getpid(), getattr(signal, words[1]))
    elif words[0] == "exit":
        os._exit(int(words[1]))
    return f"{os.getpid()} {model}", "text/plain"
"""

THREADED = CODE + "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
WORKERS = "SAGEMAKER_MODEL_SERVER_WORKERS"
AS_NEEDED = {"MOORAGE_WORKERS": "3"}
PATIENCE_SECONDS = 10.0


def _ask(instance: Instance, text: str = "who") -> list[int]:
    """Invoke; gives the process that has answered, and the one that has loaded the model."""
    status, _type, body = instance.post(text.encode(), Content_Type="a/b")
    assert status == 200
    return [int(word) for word in body.split()]


def _children(instance: Instance) -> set[int]:
    pid = instance.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _wait_for(condition: Callable[[], bool], instance: Instance) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, instance.log.read_text()
        time.sleep(0.005)


_GATES = count()


@contextlib.contextmanager
def _busy(instance: Instance, many: int = 1) -> Iterator[None]:
    """Have invocations run that last as long as the context, each in a connection of its own."""
    gate = instance.log.with_name(f"gate-{next(_GATES)}")
    asking = [threading.Thread(target=_ask, args=(instance, f"until {gate}")) for _ in range(many)]
    for thread in asking:
        thread.start()
    try:
        yield
    finally:
        gate.touch()
        for thread in asking:
            thread.join()


def _begun(instance: Instance, many: int) -> Callable[[], bool]:
    return lambda: instance.log.read_text().count("begun in") >= many


def test_without_a_number_the_process_that_loads_serves(start: Start) -> None:
    instance = start(CODE)
    assert _ask(instance) == [instance.process.pid] * 2
    assert not _children(instance)


def test_model_is_loaded_once_and_served_by_as_many_processes_as_asked_for(start: Start) -> None:
    instance = start(CODE, **{WORKERS: "3"})
    pids = [_ask(instance) for _ in range(3)]
    _wait_for(lambda: len(_children(instance)) == 3, instance)
    assert {loader for _pid, loader in pids} == {instance.process.pid}
    assert {pid for pid, _loader in pids} <= _children(instance)
    assert instance.log.read_text().count("loaded by") == 1


def test_further_workers_come_when_requests_wait_and_only_then(start: Start) -> None:
    instance = start(CODE, **AS_NEEDED)
    for _ in range(20):
        _ask(instance)
    assert len(_children(instance)) == 1
    with _busy(instance, many=3):
        _wait_for(_begun(instance, 3), instance)
    assert len(_children(instance)) == 3


def test_no_more_workers_come_than_may_be(start: Start) -> None:
    instance = start(CODE, **AS_NEEDED)
    with _busy(instance, many=8):
        _wait_for(_begun(instance, 3), instance)
    assert len(_children(instance)) == 3


def test_kept_connections_of_one_worker_are_spread_when_it_is_behind(start: Start) -> None:
    """Both are accepted by the only worker; then each has a worker of its own, and keeps it."""
    instance = start(CODE, **AS_NEEDED)
    with instance.connection() as one, instance.connection() as other:
        for connection in (one, other):
            connection.request("GET", "/ping")
            connection.getresponse().read()
        with _busy(instance):
            instance.wait_for_log("begun in")
            served_by = []
            for connection in (one, other, one, other):
                connection.request("POST", "/invocations", b"who", {"Content-Type": "a/b"})
                served_by.append(connection.getresponse().read().split()[0])
            busy = instance.log.read_text().partition("begun in ")[2].split()[0].encode()
    assert busy not in served_by


def test_a_large_request_is_handed_over_whole(start: Start) -> None:
    instance = start(CODE, **AS_NEEDED)
    body = b"size " + bytes(3_000_000)
    with instance.connection() as kept:
        kept.request("GET", "/ping")
        kept.getresponse().read()
        with _busy(instance):
            instance.wait_for_log("begun in")
            kept.request("POST", "/invocations", body, {"Content-Type": "a/b", "Custom-Header": "kept"})
            assert kept.getresponse().read() == b"%d kept" % len(body)
            assert instance.log.read_text().count("begun in") == 1


def test_ping_is_answered_while_all_workers_are_busy(start: Start) -> None:
    instance = start(CODE, **{WORKERS: "2"})
    with _busy(instance, many=2):
        _wait_for(lambda: instance.log.read_text().count("begun in") == 2, instance)
        assert instance.get()[0] == 200


@pytest.mark.parametrize(("order", "said"), [("die SIGKILL", "SIGKILL"), ("exit 4", "exit code 4")])
def test_worker_that_dies_is_replaced_and_named_in_the_log(start: Start, order: str, said: str) -> None:
    instance = start(CODE, **{WORKERS: "2"})
    _wait_for(lambda: len(_children(instance)) == 2, instance)
    before = _children(instance)
    with pytest.raises((ConnectionError, OSError)):
        _ask(instance, order)
    instance.wait_for_log(f"has ended: {said}")
    _wait_for(lambda: len(_children(instance)) == 2 and _children(instance) != before, instance)
    assert instance.process.poll() is None
    assert all(_ask(instance)[1] == instance.process.pid for _ in range(10))


@pytest.mark.parametrize(("order", "code"), [("die SIGKILL", 137), ("exit 4", 4), ("exit 0", 0)])
def test_workers_that_die_again_and_again_end_the_instance(start: Start, order: str, code: int) -> None:
    instance = start(CODE, **{WORKERS: "2"})
    deaths = 0
    while instance.process.poll() is None and deaths < 50:
        with contextlib.suppress(OSError):
            _ask(instance, order)
        deaths += 1
    assert instance.process.wait(PATIENCE_SECONDS) == code
    assert "5 workers have ended within seconds of their start" in instance.log.read_text()


def test_sigterm_finishes_what_all_workers_have_begun_and_ends_with_0(start: Start) -> None:
    instance = start(CODE, **{WORKERS: "2"})
    with _busy(instance, many=2):
        _wait_for(lambda: instance.log.read_text().count("begun in") == 2, instance)
        instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(PATIENCE_SECONDS) == 0


def test_workers_end_with_their_foreman(start: Start) -> None:
    instance = start(CODE, **{WORKERS: "2"})
    _wait_for(lambda: len(_children(instance)) == 2, instance)
    children = _children(instance)
    instance.process.kill()
    instance.process.wait()
    _wait_for(lambda: not any(_lives(pid) for pid in children), instance)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_model_whose_loading_starts_threads_has_one_process(start: Start) -> None:
    instance = start(THREADED, **{WORKERS: "2"})
    assert _ask(instance) == [instance.process.pid] * 2
    assert "has started 1 threads" in instance.log.read_text()


def test_each_worker_loads_the_model_where_that_is_asked_for(start: Start) -> None:
    instance = start(THREADED, MOORAGE_LOAD_PER_WORKER="true", **{WORKERS: "2"})
    _wait_for(lambda: instance.log.read_text().count("loaded by") == 2, instance)
    pid, loader = _ask(instance)
    assert pid == loader != instance.process.pid


def test_model_that_each_worker_fails_to_load_ends_the_instance_at_once(start: Start) -> None:
    code = "def model_fn(d): raise RuntimeError('no such luck')"
    instance = start(code, MOORAGE_LOAD_PER_WORKER="true", **{WORKERS: "2"})
    assert instance.process.wait(PATIENCE_SECONDS) == 1
    assert "RuntimeError: no such luck" in instance.log.read_text()


def test_wrong_number_of_workers_is_said_and_ends_the_instance(start: Start) -> None:
    instance = start(CODE, **{WORKERS: "many"})
    assert instance.process.wait(PATIENCE_SECONDS) == 1
    assert f"{WORKERS} is many. It must be a whole number" in instance.log.read_text()


def test_orphans_of_the_customer_s_code_are_none_of_the_workers(start: Start) -> None:
    code = CODE + "os.fork() or os._exit(0)\n"
    instance = start(code, **{WORKERS: "2"})
    assert _ask(instance)[1] == instance.process.pid
    assert "has ended" not in instance.log.read_text()
