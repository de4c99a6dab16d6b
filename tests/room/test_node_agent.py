"""A node agent over its real link, with real instances of a bare Python."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.engines import OBEDIENT, is_living, printed, until
from tests.support.node import ADDED, ControlEnd, call, make_spec, node
from tests.support.product import descendants

from moorage.engine.contract import Failure, InstanceState
from moorage.engine.promises import Refusals

READY, STOPPED, EXITED, FAILED = (
    InstanceState.READY,
    InstanceState.STOPPED,
    InstanceState.EXITED,
    InstanceState.FAILED,
)

DEAF = """
import signal, time
def model_fn(folder):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("not listening")
    time.sleep(3600)
"""


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[ControlEnd]:
    async with node("process", tmp_path) as socket, call(socket, tmp_path / "models") as end:
        end.model("model", OBEDIENT)
        yield end


async def test_instance_comes_to_ready_with_pid_and_address(control: ControlEnd) -> None:
    await control.launch("i-1")
    report = await control.comes_to("i-1", READY)
    assert control.states("i-1") == [InstanceState.PREPARING, InstanceState.STARTING, READY]
    assert report.pid is not None
    assert is_living(report.pid)
    assert report.address is not None
    assert Path(report.address.removeprefix("unix:")).is_socket()
    assert report.resolved_images[0].startswith("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn@")
    await until(lambda: "loaded" in printed(Path(report.log_path)), "it is in the log")


async def test_another_version_than_the_images_is_told(control: ControlEnd) -> None:
    await control.launch("i-1", image="moorage/python:3.1")
    (told,) = (await control.comes_to("i-1", READY)).stand_ins
    assert told.startswith("The image is Python 3.1; Python 3.")


async def test_code_submitted_beside_the_artefact_is_what_runs(control: ControlEnd) -> None:
    submitted = control.models / "sent" / "content"
    submitted.mkdir(parents=True)
    (submitted / "own.py").write_text(OBEDIENT.replace("loaded", "loaded what was sent"), encoding="utf-8")
    await control.launch("i-1", SAGEMAKER_PROGRAM="own.py", SAGEMAKER_SUBMIT_DIRECTORY="s3://models/sent")
    report = await control.comes_to("i-1", READY)
    await until(lambda: "loaded what was sent" in printed(Path(report.log_path)), "it is in the log")


async def test_code_that_was_not_submitted_fails_with_its_place(control: ControlEnd) -> None:
    await control.launch("i-1", SAGEMAKER_SUBMIT_DIRECTORY="s3://models/never")
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.message) == (Failure.ARTIFACT, "There is no model data at s3://models/never.")


async def test_same_launch_twice_starts_one_instance(control: ControlEnd) -> None:
    await control.launch("i-1")
    first = await control.comes_to("i-1", READY)
    await control.launch("i-1")
    await control.order("stop", "i-1")
    await control.comes_to("i-1", STOPPED)
    assert {report.pid for report in control.reports["i-1"]} == {None, first.pid}


async def test_whoever_calls_later_is_told_everything(tmp_path: Path) -> None:
    async with node("process", tmp_path) as socket:
        async with call(socket, tmp_path / "models") as first:
            first.model("model", OBEDIENT)
            await first.launch("i-1")
            await first.comes_to("i-1", READY)
        async with call(socket, tmp_path / "models") as second:
            await second.comes_to("i-1", READY)


async def test_what_no_engine_here_keeps_is_told_first_and_refused_before_anything_is_started(tmp_path: Path) -> None:
    refusals = Refusals({"EnableNetworkIsolation": "the engine cannot. Use another."})
    async with node("process", tmp_path, refusals=refusals) as socket, call(socket, tmp_path / "models") as end:
        await end.ask_for(replace(make_spec("i-1"), network_isolation=True))
        report = await end.comes_to("i-1", FAILED)
        assert (report.failure, report.message) == (
            Failure.UNSUPPORTED,
            "EnableNetworkIsolation: the engine cannot. Use another.",
        )
        assert end.states("i-1") == [InstanceState.PREPARING, FAILED]
        assert end.refuses == {"EnableNetworkIsolation": "the engine cannot. Use another."}
        end.model("model", OBEDIENT)
        await end.launch("i-2")
        await end.comes_to("i-2", READY)


async def test_stopped_instance_is_gone_and_forgotten_when_told(control: ControlEnd, tmp_path: Path) -> None:
    await control.launch("i-1")
    ready = await control.comes_to("i-1", READY)
    await control.order("forget", "i-1")  # it lives: its record stays
    await control.order("stop", "i-1")
    report = await control.comes_to("i-1", STOPPED)
    assert (report.pid, report.failure, report.message) == (None, None, "")
    assert ready.pid is not None
    assert not is_living(ready.pid)
    await control.order("forget", "i-1")
    await control.launch("i-1")
    await until(lambda: control.reports["i-1"][-1].state is READY, "the name can be used anew")


async def test_stop_while_the_model_is_fetched_is_taken_up_at_once(control: ControlEnd) -> None:
    await control.launch("i-1", model="slow")
    await control.comes_to("i-1", InstanceState.PREPARING)
    await control.order("stop", "i-1")
    await control.comes_to("i-1", STOPPED)


async def test_model_that_ignores_sigterm_is_killed_after_the_grace(control: ControlEnd) -> None:
    control.model("deaf", DEAF)
    await control.launch("i-1", model="deaf")
    starting = await control.comes_to("i-1", InstanceState.STARTING)
    await until(lambda: "not listening" in printed(Path(starting.log_path)), "the model hangs")
    await until(lambda: control.reports["i-1"][-1].pid is not None, "its process id is reported")
    pid = control.reports["i-1"][-1].pid or 0
    await control.order("stop", "i-1")
    report = await control.comes_to("i-1", STOPPED)
    assert not is_living(pid)
    assert printed(Path(report.log_path)).splitlines()[-1] == (
        "[moorage] The container did not end within 0.5 s of SIGTERM and is killed"
    )


async def test_killed_instance_is_reported_with_its_last_words(control: ControlEnd) -> None:
    await control.launch("i-1")
    ready = await control.comes_to("i-1", READY)
    assert ready.pid is not None
    os.kill(ready.pid, signal.SIGKILL)
    report = await control.comes_to("i-1", EXITED)
    assert report.message == "The container was killed by SIGKILL"
    assert "loaded" in report.log_tail
    assert "[moorage]" not in report.log_tail  # the message is told beside it
    assert printed(Path(report.log_path)).splitlines()[-1] == "[moorage] The container was killed by SIGKILL"


async def test_stopped_process_becomes_unhealthy_and_is_ended(control: ControlEnd) -> None:
    await control.launch("i-1")
    ready = await control.comes_to("i-1", READY)
    assert ready.pid is not None
    for pid in descendants(ready.pid):  # its workers too: any of them answers health checks
        os.kill(pid, signal.SIGSTOP)
    report = await control.comes_to("i-1", EXITED)
    assert InstanceState.UNHEALTHY in control.states("i-1")
    assert "failed its health checks" in report.message
    assert not is_living(ready.pid)


async def test_model_that_cannot_be_loaded_fails_with_its_traceback(control: ControlEnd) -> None:
    control.model("bad", "def model_fn(d):\n    raise ValueError('no such luck')\n")
    await control.launch("i-1", model="bad")
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.container) == (Failure.HEALTH_CHECK, "primary")
    assert "ValueError: no such luck" in report.log_tail


async def test_model_that_hangs_while_loading_fails_its_health_check(control: ControlEnd) -> None:
    control.model("hangs", "import time\ndef model_fn(d):\n    time.sleep(3600)\n")
    await control.launch("i-1", model="hangs", seconds=0.5)
    report = await control.comes_to("i-1", FAILED)
    assert report.failure is Failure.HEALTH_CHECK
    assert not is_living(control.reports["i-1"][-2].pid or 0)


async def test_missing_artifact_fails_with_its_reason(control: ControlEnd) -> None:
    await control.launch("i-1", model="missing")
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.message) == (Failure.ARTIFACT, "There is no model data at s3://models/missing.")
    assert printed(Path(report.log_path)) == "[moorage] There is no model data at s3://models/missing.\n"


async def test_unknown_image_fails_with_its_reason(control: ControlEnd) -> None:
    await control.launch("i-1", image="example.com/mine:1")
    report = await control.comes_to("i-1", FAILED)
    assert (report.failure, report.message) == (Failure.IMAGE, "Requested image example.com/mine:1 not found.")


async def test_version_of_an_image_that_there_is_not_is_told_which_there_are(control: ControlEnd) -> None:
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/xgboost:2"
    await control.launch("i-1", image=image)
    report = await control.comes_to("i-1", FAILED)
    assert report.message == f"Requested image {image} not found. Built-in images of xgboost: 1, latest."


async def test_added_python_serves_a_deployment_until_it_changes(control: ControlEnd) -> None:
    spec = make_spec("i-1", image="my/env")
    await control.ask_for(spec)
    report = await control.comes_to("i-1", READY)
    assert report.resolved_images == (ADDED.resolved,)
    for name, resolved in (("i-2", ADDED.resolved), ("i-3", "my/env@sha256:0")):
        container = replace(spec.containers[0], resolved_image=resolved)
        await control.ask_for(replace(spec, instance_id=name, containers=(container,)))
    await control.comes_to("i-2", READY)
    report = await control.comes_to("i-3", FAILED)
    assert report.failure is Failure.IMAGE
    assert "has changed since this deployment began" in (report.message or "")


async def test_requirements_are_installed_and_what_pip_says_is_in_the_log(control: ControlEnd) -> None:
    control.model("more", OBEDIENT, requirements="more\n")
    await control.launch("i-1", model="more")
    report = await control.comes_to("i-1", READY)
    await until(lambda: "pip says a word" in printed(Path(report.log_path)), "it is in the log")


async def test_requirements_that_cannot_be_installed_fail_the_start(control: ControlEnd) -> None:
    control.model("more", OBEDIENT, requirements="broken\n")
    await control.launch("i-1", model="more")
    report = await control.comes_to("i-1", FAILED)
    assert report.failure is Failure.START
    assert report.message.startswith("failed to install required packages")


async def test_order_that_cannot_be_read_harms_nobody(control: ControlEnd) -> None:
    await control.link.send({"op": "dance"})
    await control.link.send({"spec": 1})
    await control.launch("i-1")
    await control.comes_to("i-1", READY)


async def test_end_of_the_agent_ends_its_instances(tmp_path: Path) -> None:
    async with node("process", tmp_path) as socket, call(socket, tmp_path / "models") as end:
        end.model("model", OBEDIENT)
        await end.launch("i-1")
        pid = (await end.comes_to("i-1", READY)).pid
    assert pid is not None
    assert not is_living(pid)
