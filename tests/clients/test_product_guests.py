"""A built-in image in containers, through the whole product: MOORAGE_ENGINE=docker, boto3, InService, a prediction."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
from tests.clients.test_product_docker import containers_of
from tests.support import models
from tests.support.containers import docker
from tests.support.dockerd import daemon, needs_docker
from tests.support.fixtures import Deployment, Wine
from tests.support.machine import MACHINE
from tests.support.product import IMAGE, alive, running, wait_until
from tests.support.small_models import ECHO, a_variant, serve

from moorage.engine.docker.daemon import Daemon
from moorage.engine.machine import Need

__all__ = ["daemon"]

pytestmark = [
    needs_docker,
    pytest.mark.skipif(os.getuid() != 0, reason="only root may enter the containers of a daemon"),
]


def test_forest_predicts_in_a_container_and_one_that_is_killed_is_replaced(
    daemon: Daemon, wine: Wine, tmp_path: Path
) -> None:
    with running(tmp_path / "data", MOORAGE_ENGINE="docker", DOCKER_HOST=str(daemon.address)) as server:
        user = Deployment(server)
        user.in_service("forest", ("blue", user.model("forest", wine.artefact("forest")), 1.0, 1))
        assert predict(user, wine) == wine.answers["forest"][:2]
        (container,) = containers_of(daemon, server)
        (pid,) = server.pids("instance", "forest")
        docker(daemon, "kill", container)
        wait_until(lambda: containers_of(daemon, server) not in ([], [container]), within=30, what="another runs")
        wait_until(lambda: server.pids("instance", "forest") not in ([], [pid]), within=30, what="another is ready")
        wait_until(lambda: predicts(user, wine), within=30, what="another answers")
        (pid,) = server.pids("instance", "forest")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.pids("instance", "forest") not in ([], [pid]), within=30, what="a third is ready")
        wait_until(lambda: predicts(user, wine), within=30, what="a third answers")
        wait_until(lambda: len(containers_of(daemon, server)) == 1, within=30, what="the others are gone")
        user.delete("forest")
    assert containers_of(daemon, server) == []


def test_isolated_instance_with_a_disk_and_shells_keeps_its_promises_in_a_container(
    daemon: Daemon, tmp_path: Path, environment_python: str
) -> None:
    assert environment_python
    with running(tmp_path / "data", MOORAGE_ENGINE="docker", DOCKER_HOST=str(daemon.address)) as server:
        user = Deployment(server)
        user.model("echo", models.code_only(ECHO))
        disk = {} if Need.VOLUME in MACHINE.lacks else {"VolumeSizeInGB": 1}
        variant = a_variant("blue", "echo", EnableSSMAccess=True, **disk)
        serve(user, "echo", variant, EnableNetworkIsolation=True)
        answer = user.runtime.invoke_endpoint(EndpointName="echo", Body=b"ahoy", ContentType="text/plain")
        assert answer["Body"].read() == b"ahoy"
        seen = server.run("exec", "echo/blue", "--", "cat", "/proc/net/dev").stdout.splitlines()
        assert [line.split(":")[0].strip() for line in seen[2:]] == ["lo"]
        if disk:
            size = server.run("exec", "echo/blue", "--", "df", "--output=size", "-k", "/tmp").stdout.split()[-1]
            assert 0.9 * 2**20 < int(size) <= 2**20
        user.delete("echo")


def test_instance_ends_with_a_killed_node_agent_whose_next_start_removes_the_container(
    daemon: Daemon, wine: Wine, tmp_path: Path
) -> None:
    with running(tmp_path / "data", MOORAGE_ENGINE="docker", DOCKER_HOST=str(daemon.address)) as server:
        user = Deployment(server)
        user.in_service("forest", ("blue", user.model("forest", wine.artefact("forest")), 1.0, 1))
        (pid,) = server.pids("instance", "forest")
        (left,) = containers_of(daemon, server)
        (node,) = server.pids("node")
        os.kill(node, signal.SIGKILL)
        wait_until(lambda: not alive(pid), within=10, what="the instance has ended")
        wait_until(lambda: containers_of(daemon, server) not in ([], [left]), within=30, what="another container runs")
        wait_until(lambda: predicts(user, wine), within=30, what="the endpoint serves again")
        assert len(containers_of(daemon, server)) == 1
        user.delete("forest")
    assert containers_of(daemon, server) == []


def test_pipeline_of_built_in_images_runs_in_containers_that_end_together(daemon: Daemon, tmp_path: Path) -> None:
    with running(tmp_path / "data", MOORAGE_ENGINE="docker", DOCKER_HOST=str(daemon.address)) as server:
        user = Deployment(server)
        echo = models.code_only(ECHO)
        user.in_service("duo", ("blue", user.several("duo", (IMAGE, echo, "a"), (IMAGE, echo, "b")), 1.0, 1))
        assert user.invoke("duo", "x")[0] == "x"
        before = containers_of(daemon, server)
        assert len(before) == 2
        docker(daemon, "kill", before[1])
        wait_until(
            lambda: len(after := containers_of(daemon, server)) == 2 and not set(after) & set(before),
            within=60,
            what="both are replaced",
        )
        wait_until(lambda: _echoes(user), within=30, what="others answer")
        user.delete("duo")
    assert containers_of(daemon, server) == []


def _echoes(user: Deployment) -> bool:
    with contextlib.suppress(user.runtime.exceptions.ClientError):
        return user.invoke("duo", "x")[0] == "x"
    return False


def predict(user: Deployment, wine: Wine) -> list[int]:
    answer = user.runtime.invoke_endpoint(
        EndpointName="forest", Body=wine.csv(0, 1), ContentType="text/csv", Accept="application/json"
    )
    predicted: list[int] = json.loads(answer["Body"].read())
    return predicted


def predicts(user: Deployment, wine: Wine) -> bool:
    with contextlib.suppress(user.runtime.exceptions.ClientError):
        return predict(user, wine) == wine.answers["forest"][:2]
    return False
