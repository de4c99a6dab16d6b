"""Events of the whole product: followed by page and by command line, and posted to a webhook across a kill."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.models import code_only
from tests.support.product import IMAGE, ROLE, Moorage, running, wait_until

BROKEN = """
    def model_fn(model_dir):
        raise ValueError("no such weights")
"""


class Hook:
    """A receiver of events that can be told to refuse them."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if outer.status == 200:
                    outer.events.append(json.loads(body))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"

    def statuses(self) -> list[str]:
        return [event["detail"]["EndpointStatus"] for event in self.events if is_state_change(event)]


def is_state_change(event: Any) -> bool:
    return bool(event["detail-type"] == "SageMaker Endpoint State Change")


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def make_configuration(moorage: Moorage) -> Any:
    s3, sagemaker = moorage.client("s3"), moorage.client("sagemaker")
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="model.tar.gz", Body=code_only(BROKEN))
    container = {"Image": IMAGE, "ModelDataUrl": "s3://models/model.tar.gz"}
    sagemaker.create_model(ModelName="broken", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    variant = {
        "VariantName": "a",
        "ModelName": "broken",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        "InitialVariantWeight": 1.0,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="broken", ProductionVariants=[variant])
    return sagemaker


def status(sagemaker: Any) -> str | None:
    found = sagemaker.list_endpoints()["Endpoints"]
    return found[0]["EndpointStatus"] if found else None


@pytest.mark.slow  # starts a server, builds a fleet that fails, and kills it
def test_life_and_death_of_an_endpoint_are_told_to_everybody(
    hook: Hook, environment_python: str, tmp_path: Path
) -> None:
    del environment_python
    with running(tmp_path / "data", MOORAGE_EVENT_WEBHOOK=hook.url) as moorage:
        everybody_sees = Path(f"/proc/{moorage.server()['pid']}/cmdline").read_bytes()
        assert b"moorage.supervisor" in everybody_sees
        assert hook.url.encode() not in everybody_sees
        sagemaker = make_configuration(moorage)
        with subprocess.Popen(
            [*moorage.command, "events", "-f", "--output", "json"],
            env=_environment(moorage),
            stdout=subprocess.PIPE,
            text=True,
        ) as following:
            sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="broken", Tags=[{"Key": "k", "Value": "v"}])
            wait_until(lambda: status(sagemaker) == "Failed", within=60, what="the endpoint has failed")
            assert following.stdout is not None
            followed = [json.loads(following.stdout.readline()) for _ in range(4)]
            following.kill()
        wait_until(lambda: len(hook.events) >= 4, within=20, what="the webhook has the events")
        assert hook.events[:4] == followed
        assert hook.statuses() == ["CREATING", "FAILED"]
        assert followed[0]["detail"]["Tags"] == {"k": "v"}
        hook.status = 503
        control = moorage.pids("control")[0]
        sagemaker.delete_endpoint(EndpointName="ep")
        wait_until(lambda: status(sagemaker) is None, within=30, what="the endpoint is gone")
        subprocess.run(["kill", "-9", str(control)], check=True)
        wait_until(lambda: moorage.pids("control") not in ([], [control]), within=20, what="control is back")
        hook.status = 200
        wait_until(lambda: "DELETED" in hook.statuses(), within=30, what="the webhook has the end")
        assert list(dict.fromkeys(hook.statuses())) == ["CREATING", "FAILED", "DELETING", "DELETED"]
        shown = moorage.run("events", "ep").stdout
        assert "  ep  FAILED\n" in shown
        assert "  > Read what the container has printed: moorage logs ep" in shown
        told = json.loads(moorage.run("events", "--output", "json").stdout)
        assert [e["id"] for e in told] == list(dict.fromkeys(e["id"] for e in hook.events))


@pytest.mark.slow  # starts a server
def test_failed_endpoint_is_listed_with_its_reason_and_what_to_do(environment_python: str, tmp_path: Path) -> None:
    del environment_python
    with running(tmp_path / "data") as moorage:
        sagemaker = make_configuration(moorage)
        sagemaker.create_endpoint(EndpointName="ep", EndpointConfigName="broken")
        wait_until(lambda: status(sagemaker) == "Failed", within=60, what="the endpoint has failed")
        listed = moorage.run("ls").stdout
        assert "did not pass the ping health check" in listed
        assert "ValueError: no such weights" in listed
        assert "  > Read what the container has printed: moorage logs ep" in listed
        assert "webhook" not in moorage.run("doctor", check=False).stdout


def test_misspelt_setting_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "moorage", "up", "--port", "0", "--data-dir", str(tmp_path / "data")],
        env={**_environment(None), "MOORAGE_EVENT_WEBHOK": "http://localhost/"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 1
    assert "There is no setting MOORAGE_EVENT_WEBHOK. The nearest is MOORAGE_EVENT_WEBHOOK" in answer.stderr


def _environment(moorage: Moorage | None) -> dict[str, str]:
    folder = {"MOORAGE_DATA_DIR": str(moorage.data_dir)} if moorage is not None else {}
    return {**os.environ, **folder}
