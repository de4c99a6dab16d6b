"""What the command line prints, made of values."""

from pathlib import Path

import pytest

from moorage.cli.deploy import default_name, progress_lines
from moorage.cli.present import duration, size, table
from moorage.cli.processes import Process
from moorage.cli.ps import describe
from moorage.engine.contract import InstanceReport, InstanceState
from moorage.supervisor.banner import banner

SERVER = {
    "url": "http://127.0.0.1:8410",
    "pid": 7,
    "region": "us-east-1",
    "version": "0.1.0",
    "data_dir": "/d",
    "engine": "sandbox",
    "ephemeral": False,
}
KEY = {"access_key_id": "AKIA", "secret_access_key": "s3cret key"}


def test_a_table_has_straight_columns() -> None:
    assert table(["A", "LONG"], [["xxx", "1"], ["y", "2"]]) == "A    LONG\nxxx  1\ny    2"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (120_000_000, "120 MB"), (5 * 10**15, "5000 TB")]
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (65, "1m 5s"), (3600, "1h"), (90000, "1d 1h"), (-1, "0s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("iris.tar.gz", "iris"),
        ("/x/wine/model.tar.gz", "wine"),
        ("my_model v2.tgz", "my-model-v2"),
        ("__.tar.gz", "model"),
    ],
)
def test_an_endpoint_is_named_by_its_file(path: str, name: str, tmp_path: Path) -> None:
    assert default_name(tmp_path / path) == name


def test_progress_says_what_the_instances_are_doing() -> None:
    endpoint = {
        "EndpointName": "wine",
        "EndpointStatus": "Creating",
        "ProductionVariants": [{"VariantName": "a"}, {"VariantName": "b"}],
    }
    instances = [
        {"endpoint": "wine", "variant": "a", "state": "Preparing", "message": "installing scikit-learn"},
        {"endpoint": "other", "variant": "b", "state": "Ready", "message": ""},
    ]
    assert progress_lines(endpoint, instances, 3.0) == [
        "wine/a  Creating  installing scikit-learn",
        "wine/b  Creating  waiting",
    ]


def test_nothing_is_waited_for_once_a_deployment_has_failed() -> None:
    endpoint = {"EndpointName": "wine", "EndpointStatus": "Failed", "ProductionVariants": [{"VariantName": "a"}]}
    assert progress_lines(endpoint, [], 3.0) == ["wine/a  Failed"]


def test_an_instance_s_memory_is_that_of_all_its_processes() -> None:
    # 1 supervises 2 (node), which has a zygote 3 and the instance 4 with a child 5.
    processes = {
        pid: Process(pid, parent, rss, 9.0) for pid, parent, rss in [(2, 1, 1), (3, 2, 10), (4, 2, 100), (5, 4, 1000)]
    }
    report = InstanceReport("i-1", "wine", "a", InstanceState.READY, 0.0, address="unix:/x", pid=4)
    rows = describe([{"role": "node", "pid": 2}], [report], processes)
    assert [(row["role"], row["pid"], row["rss_bytes"]) for row in rows] == [
        ("node", 2, 1),
        ("zygote", 3, 10),
        ("instance", 4, 1100),
    ]


def test_an_instance_forked_below_a_zygote_is_counted_once() -> None:
    processes = {pid: Process(pid, parent, 10, 9.0) for pid, parent in [(2, 1), (3, 2), (4, 3)]}
    report = InstanceReport("i-1", "wine", "a", InstanceState.READY, 0.0, pid=4)
    rows = describe([{"role": "node", "pid": 2}], [report], processes)
    assert [(row["role"], row["rss_bytes"]) for row in rows] == [("node", 10), ("zygote", 10), ("instance", 10)]


def test_a_process_that_waits_for_its_instance_is_no_zygote() -> None:
    processes = {2: Process(2, 1, 10, 9.0), 3: Process(3, 2, 10, 9.0), 4: Process(4, 2, 10, 9.0, "moorage-embryo")}
    rows = describe([{"role": "node", "pid": 2}], [], processes)
    assert [(row["role"], row["pid"]) for row in rows] == [("node", 2), ("zygote", 3), ("embryo", 4)]


def test_a_process_that_has_ended_is_not_shown_as_a_zygote() -> None:
    processes = {pid: Process(pid, parent, rss, 9.0) for pid, parent, rss in [(2, 1, 10), (3, 2, 0)]}
    assert [row["role"] for row in describe([{"role": "node", "pid": 2}], [], processes)] == ["node"]


def test_the_banner_has_all_that_a_client_needs() -> None:
    text = banner(SERVER, KEY, warn=False, style=False)
    assert "  export AWS_ENDPOINT_URL=http://127.0.0.1:8410\n" in text
    assert "  export AWS_SECRET_ACCESS_KEY='s3cret key'\n" in text
    assert "  export AWS_DEFAULT_REGION=us-east-1\n" in text
    assert "WARNING" not in text
    assert "\x1b" not in text


def test_the_banner_warns_loudly_when_others_can_reach_the_port() -> None:
    assert "WARNING: other machines can reach this port." in banner(SERVER, KEY, warn=True, style=True)
