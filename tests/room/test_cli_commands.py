"""The command line against a fake server: what it asks, what it prints, what it says when something is wrong."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.room.fake_api import Answer, Api, fake_api, fake_node
from tests.support.logs import Stream

from moorage.cli.doctor import machine_checks
from moorage.cli.main import cli
from moorage.engine.docker.daemon import Address, Daemon
from moorage.engine.machine import Machine
from moorage.engine.promises import PROMISES

ENDPOINT = {
    "EndpointName": "wine",
    "EndpointStatus": "InService",
    "ProductionVariants": [
        {"VariantName": "a", "CurrentInstanceCount": 2, "DesiredInstanceCount": 2, "CurrentWeight": 2.0},
        {"VariantName": "b", "CurrentInstanceCount": 1, "DesiredInstanceCount": 2, "CurrentWeight": 1.0},
    ],
}
NOT_FOUND = Answer({"__type": "ValidationException", "Message": "Could not find endpoint"}, 400)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with fake_api(tmp_path) as api:
        yield api
        assert api.unverified == []


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # what an earlier test made it remember
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def moorage(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=stdin)


@pytest.mark.parametrize(
    "arguments",
    [["env"], ["ls"], ["ps"], ["keys", "list"], ["keys", "create", "bob"], ["invoke", "wine", "--body", "1"]],
    ids=" ".join,
)
def test_without_a_server_every_command_says_how_to_start_one(arguments: list[str], tmp_path: Path) -> None:
    result = moorage(*arguments)
    assert result.exit_code == 1
    assert result.stderr == f"Error: No Moorage runs on {tmp_path / 'data'}. Start one: moorage up\n"


def test_a_killed_server_s_file_is_not_taken_for_a_server(tmp_path: Path) -> None:
    with fake_api(tmp_path):
        pass
    assert "No Moorage runs on" in moorage("env").stderr


def test_server_that_is_about_to_be_ready_is_waited_for(tmp_path: Path) -> None:
    with fake_api(tmp_path) as api:
        description = tmp_path / "data" / "server.json"
        hidden = description.rename(tmp_path / "server.json")
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(moorage, "env")
            hidden.rename(description)
            assert f"export AWS_ENDPOINT_URL={api.url}\n" in asked.result().output


def test_env_makes_a_shell_ready(api: Api) -> None:
    script = f'eval "$({sys.executable} -m moorage env)"; echo $AWS_ENDPOINT_URL $AWS_ACCESS_KEY_ID '
    script += "$AWS_SECRET_ACCESS_KEY $AWS_DEFAULT_REGION ${AWS_SESSION_TOKEN-none}"
    environment = {**os.environ, "AWS_SESSION_TOKEN": "of another account"}
    said = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [api.url, "AKIATEST", "secret", "us-east-1", "none"]


def test_help_loads_nothing_heavy() -> None:
    script = "import sys; from moorage.cli.main import cli; cli(['--help'], standalone_mode=False)\n"
    script += "print('LOADED', *({'asyncio', 'http.client', 'sqlalchemy', 'uvloop', 'uvicorn'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "LOADED"


def test_ls_shows_variants_with_their_share(api: Api) -> None:
    api.will("ListEndpoints", {"Endpoints": [{"EndpointName": "wine"}]})
    api.will("DescribeEndpoint", ENDPOINT)
    assert moorage("ls").output.splitlines() == [
        "ENDPOINT  STATUS     VARIANTS",
        "wine      InService  a 2/2 (67%), b 1/2 (33%)",
    ]


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_ls_gives_an_only_variant_all_traffic_whatever_its_weight(api: Api, weight: float) -> None:
    variant = {"VariantName": "a", "CurrentInstanceCount": 2, "DesiredInstanceCount": 2, "CurrentWeight": weight}
    alone = {**ENDPOINT, "ProductionVariants": [variant]}
    api.will("ListEndpoints", {"Endpoints": [{"EndpointName": "wine"}]})
    api.will("DescribeEndpoint", alone)
    assert moorage("ls").output.splitlines()[1] == "wine      InService  a 2/2 (100%)"


def test_ls_tells_a_shadow_by_the_share_of_invocations_that_it_gets_a_copy_of(api: Api) -> None:
    shadow = {"VariantName": "s", "CurrentInstanceCount": 1, "DesiredInstanceCount": 2, "CurrentWeight": 0.5}
    (production, *_) = ENDPOINT["ProductionVariants"]
    api.will("ListEndpoints", {"Endpoints": [{"EndpointName": "wine"}]})
    api.will("DescribeEndpoint", {**ENDPOINT, "ProductionVariants": [production], "ShadowProductionVariants": [shadow]})
    assert moorage("ls").output.splitlines()[1] == "wine      InService  a 2/2 (100%), s 1/2 (shadow 25%)"
    (row,) = json.loads(moorage("ls", "--output", "json").stdout)
    assert [(variant["variant"], variant["shadow"]) for variant in row["variants"]] == [("a", False), ("s", True)]


def test_ls_follows_pages_and_speaks_json(api: Api) -> None:
    api.will(
        "ListEndpoints",
        {"Endpoints": [{"EndpointName": "wine"}], "NextToken": "more"},
        {"Endpoints": [{"EndpointName": "gone"}, {"EndpointName": "wine"}]},
    )
    api.will("DescribeEndpoint", ENDPOINT, NOT_FOUND, ENDPOINT)
    rows = json.loads(moorage("ls", "--output", "json").stdout)
    assert [(row["endpoint"], row["status"], len(row["variants"])) for row in rows] == [("wine", "InService", 2)] * 2


_KMS: dict[str, Any] = {
    "KeyId": "k-1",
    "Arn": "arn:aws:kms:us-east-1:000000000000:key/k-1",
    "KeyState": "Enabled",
    "Description": "d",
}
_KMS |= {"CreationDate": 1.0, "KeyManager": "CUSTOMER"}


def test_keys_of_kms_are_made_with_an_alias(api: Api) -> None:
    api.will("TrentService.CreateKey", {"KeyMetadata": _KMS})
    api.will("TrentService.CreateAlias", {})
    made = moorage("kms", "create-key", "--description", "d", "--alias", "models")
    assert made.output == f"k-1\nalias/models\n{_KMS['Arn']}\n"
    assert api.asked == [
        ("TrentService.CreateKey", {"Description": "d"}),
        ("TrentService.CreateAlias", {"AliasName": "alias/models", "TargetKeyId": "k-1"}),
    ]
    row = json.loads(moorage("kms", "create-key", "--alias", "alias/models", "--output", "json").output)
    assert (row["key_id"], row["aliases"], row["arn"]) == ("k-1", ["alias/models"], _KMS["Arn"])
    api.will("TrentService.CreateAlias", Answer({"__type": "AlreadyExistsException", "message": "taken"}, 400))
    failed = moorage("kms", "create-key", "--alias", "models")
    assert (failed.exit_code, "The key k-1 is made, but not its alias." in failed.output) == (1, True)


def test_keys_of_kms_are_listed_page_by_page(api: Api) -> None:
    other = {**_KMS, "KeyId": "k-2", "KeyState": "PendingDeletion", "DeletionDate": 864_000.0, "CreationDate": 2.0}
    aliases = [{"AliasName": "alias/a", "TargetKeyId": "k-1"}]
    api.will("TrentService.ListAliases", {"Aliases": aliases, "Truncated": False})
    api.will(
        "TrentService.ListKeys",
        {"Keys": [{"KeyId": "k-1"}], "Truncated": True, "NextMarker": "m"},
        {"Keys": [{"KeyId": "k-2"}], "Truncated": False},
    )
    api.will("TrentService.DescribeKey", {"KeyMetadata": _KMS}, {"KeyMetadata": other})
    lines = moorage("kms", "ls").output.splitlines()
    assert lines[0].split() == ["KEY", "ALIASES", "STATE", "DESCRIPTION"]
    assert lines[1].split() == ["k-1", "alias/a", "Enabled", "d"]
    assert lines[2].split() == ["k-2", "PendingDeletion", "(1970-01-11)", "d"]


def test_keys_of_kms_are_disabled_enabled_and_deleted_by_any_name(api: Api) -> None:
    api.will("TrentService.DescribeKey", {"KeyMetadata": _KMS})
    for operation in ("DisableKey", "EnableKey", "CancelKeyDeletion"):
        api.will(f"TrentService.{operation}", {})
    api.will("TrentService.ScheduleKeyDeletion", {"DeletionDate": 864_000.0})
    assert "is disabled" in moorage("kms", "disable", "alias/a").output
    assert "is enabled" in moorage("kms", "enable", "alias/a").output
    assert "will be destroyed on 1970-01-11" in moorage("kms", "delete", "alias/a", "--days", "7").output
    assert "stays" in moorage("kms", "delete", "alias/a", "--cancel").output
    assert ("TrentService.ScheduleKeyDeletion", {"KeyId": _KMS["Arn"], "PendingWindowInDays": 7}) in api.asked
    assert moorage("kms", "delete", "alias/a", "--days", "3").exit_code == 2


def test_keys_are_made_listed_and_deleted(api: Api) -> None:
    made = {"access_key_id": "AKIANEW", "secret_access_key": "s", "account": "000000000000", "user_name": "bob"}
    api.will("POST /_moorage/keys", made)
    api.will("GET /_moorage/keys", {"keys": [{**made, "created_at": 1.0}]})
    api.will("DELETE /_moorage/keys/AKIANEW", {})
    assert "export AWS_SECRET_ACCESS_KEY=s\n" in moorage("keys", "create", "bob").output
    assert "AKIANEW" in moorage("keys", "list").output
    assert moorage("keys", "delete", "AKIANEW").output == "AKIANEW deleted.\n"


def test_reservations_are_made_listed_and_given_back(api: Api) -> None:
    made = {"name": "n", "arn": "arn:n", "instance_type": "ml.m5.large", "count": 2, "used": 1, "created_at": 1.0}
    api.will("POST /_moorage/reservations", made)
    api.will("GET /_moorage/reservations", {"reservations": [made]})
    api.will("DELETE /_moorage/reservations/n", {})
    create = ("reservations", "create", "n", "--instance-type", "ml.m5.large", "--count", "2")
    assert moorage(*create).output == "arn:n\n"
    assert api.asked[-1][1] == {"name": "n", "instance_type": "ml.m5.large", "count": 2}
    assert json.loads(moorage(*create, "--output", "json").output) == made
    assert "ml.m5.large    1 of 2  arn:n" in moorage("reservations", "ls").output
    assert moorage("reservations", "rm", "n").output == "n deleted.\n"


@pytest.mark.parametrize(
    ("given", "stdin", "body", "content_type"),
    [("1,2", None, "1,2", "text/csv"), ("-", "3,4", "3,4", "text/csv"), ("{}", None, "{}", "application/json")],
)
def test_invoke_sends_the_body_and_prints_the_answer(  # noqa: PLR0917 - its parameters and fixtures
    api: Api, given: str, stdin: str | None, body: str, content_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    api.will("POST /endpoints/wine/invocations", Answer(b"[1]\n"))
    reply = api.reply

    def note(method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        seen.append((dict(headers)["content-type"], body.decode()))
        return reply(method, path, headers, body)

    monkeypatch.setattr(api, "reply", note)
    assert moorage("invoke", "wine", "--body", given, stdin=stdin).stdout == "[1]\n"
    assert seen == [(content_type, body)]


def test_invoke_reads_a_file_and_knows_its_kind(api: Api, tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text("[1, 2]")
    api.will("POST /endpoints/wine/invocations", Answer(b"ok"))
    moorage("invoke", "wine", "--body", f"@{tmp_path / 'row.json'}")
    assert api.asked == [("POST /endpoints/wine/invocations", [1, 2])]


def test_a_model_s_error_is_shown_in_its_own_words(api: Api) -> None:
    fault = {
        "Message": "Received server error (500) from primary",
        "OriginalStatusCode": 500,
        "OriginalMessage": "boom",
    }
    api.will("POST /endpoints/wine/invocations", Answer(fault, 424, {"x-amzn-ErrorType": "ModelError"}))
    result = moorage("invoke", "wine", "--body", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "Error: ModelError: Received server error (500) from primary",
        "The model answered 500: boom",
        "  the log     moorage logs wine",
    ]


def test_one_row_of_csv_that_the_model_cannot_take_is_explained(api: Api) -> None:
    fault = {"Message": "... ValueError: Expected 2D array, got 1D array instead: ...", "OriginalStatusCode": 500}
    api.will("POST /endpoints/wine/invocations", Answer(fault, 424, {"x-amzn-ErrorType": "ModelError"}))
    assert "send several lines, or JSON: [[...]]" in moorage("invoke", "wine", "--body", "1,2").stderr


def test_help_begins_with_the_first_commands_a_line_each() -> None:
    assert "\n  moorage up                          start it (Ctrl-C stops it)\n" in moorage("--help").stdout


def test_without_a_server_on_a_named_folder_the_way_to_start_one_names_it(tmp_path: Path) -> None:
    said = moorage("ls", "--data-dir", str(tmp_path / "a b")).stderr
    assert f"Start one: moorage up --data-dir '{tmp_path / 'a b'}'\n" in said


def test_ps_shows_processes_and_instances(api: Api) -> None:
    own = [{"role": "supervisor", "pid": os.getpid()}, {"role": "gateway", "pid": os.getppid()}]
    (api.run_dir / "processes.json").write_text(json.dumps(own))
    report = {"instance_id": "i-1", "endpoint": "wine", "variant": "a", "state": "Ready", "since": 1.0}
    report |= {"address": "unix:/x.sock", "pid": os.getpid()}
    ended = {**report, "instance_id": "i-0", "state": "Exited"}
    with fake_node(api, [report, ended]):
        rows = json.loads(moorage("ps", "--output", "json").stdout)
    assert [row["role"] for row in rows] == ["supervisor", "gateway", "instance"]
    assert {"role", "pid", "rss_bytes", "endpoint", "variant", "instance", "address"} <= rows[0].keys()
    assert rows[0]["endpoint"] is None
    instance = rows[2]
    assert (instance["pid"], instance["variant"], instance["instance"]) == (os.getpid(), "a", "i-1")
    assert instance["address"] == "unix:/x.sock"
    assert instance["rss_bytes"] > 10**6


def test_run_deploys_and_says_how_to_invoke(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = tmp_path / "wine.tar.gz"
    artifact.write_bytes(b"\x1f\x8b and so on")
    creating = {**ENDPOINT, "EndpointStatus": "Creating"}
    api.will("DescribeEndpoint", NOT_FOUND, creating, ENDPOINT)
    api.will("GET /_moorage/instances", {"instances": []})
    exists = Answer({"__type": "ValidationException", "Message": "Cannot create already existing model"}, 400)
    api.will("CreateModel", exists)
    for operation in ("CreateEndpointConfig", "CreateEndpoint", "PUT /moorage-000000000000-models"):
        api.will(operation, {})
    reply = api.reply

    def keep_uploads(method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        if path.endswith("/model.tar.gz"):
            api.will(f"{method} {path}", {})
        return reply(method, path, headers, body)

    monkeypatch.setattr(api, "reply", keep_uploads)
    result = moorage("run", str(artifact))
    assert result.exit_code == 0, result.output
    assert "moorage invoke wine --body @row.csv" in result.stdout
    assert 'EndpointName="wine", ContentType="text/csv", Body=open("row.csv", "rb"))' in result.stdout
    bodies = dict(api.asked)
    (upload,) = [what for what in bodies if what.endswith("/model.tar.gz")]
    container = bodies["CreateModel"]["PrimaryContainer"]
    assert container["ModelDataUrl"] == upload.replace("PUT /", "s3://")
    assert bodies["CreateEndpoint"]["EndpointName"] == "wine"


def test_run_under_a_name_that_is_taken_says_what_to_do(api: Api, tmp_path: Path) -> None:
    artifact = tmp_path / "wine.tar.gz"
    artifact.write_bytes(b"\x1f\x8b and so on")
    api.will("DescribeEndpoint", {**ENDPOINT, "EndpointConfigName": "wine-of-another"})
    result = moorage("run", str(artifact), "--data-dir", str(api.data_dir))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: There is already an endpoint named wine (InService) of another artefact or image.",
        f"  use it      moorage invoke wine --body @row.csv --data-dir {api.data_dir}",
        f"  beside it   moorage run {artifact} --name wine-2 --data-dir {api.data_dir}",
        f'  replace it  eval "$(moorage env --data-dir {api.data_dir})"',
        "              aws sagemaker delete-endpoint --endpoint-name wine",
        "              aws sagemaker wait endpoint-deleted --endpoint-name wine",
        "              and the same again",
    ]
    assert [what for what, _ in api.asked] == ["DescribeEndpoint"]


def test_nobody_is_told_to_use_or_delete_an_endpoint_that_is_being_deleted(api: Api, tmp_path: Path) -> None:
    artifact = tmp_path / "wine.tar.gz"
    artifact.write_bytes(b"\x1f\x8b and so on")
    api.will("DescribeEndpoint", {**ENDPOINT, "EndpointStatus": "Deleting", "EndpointConfigName": "c"})
    said = moorage("run", str(artifact)).stderr
    assert "There is already an endpoint named wine (Deleting). Wait until it is gone" in said
    assert "moorage invoke" not in said
    assert "delete-endpoint" not in said


def test_run_replaces_an_endpoint_that_has_failed_and_lets_one_of_the_same_artefact_be(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tmp_path / "wine.tar.gz"
    artifact.write_bytes(b"\x1f\x8b and so on")
    failed = {**ENDPOINT, "EndpointStatus": "Failed", "EndpointConfigName": "c"}
    deleting = {**failed, "EndpointStatus": "Deleting"}
    api.will("DescribeEndpoint", failed, deleting, NOT_FOUND, ENDPOINT)
    api.will("GET /_moorage/instances", {"instances": []})
    for operation in ("DeleteEndpoint", "CreateModel", "CreateEndpointConfig", "CreateEndpoint"):
        api.will(operation, {})
    reply = api.reply
    monkeypatch.setattr(api, "reply", lambda *request: Answer({}) if request[0] == "PUT" else reply(*request))
    result = moorage("run", str(artifact))
    assert result.exit_code == 0, result.output
    assert "wine has failed and is replaced" in result.stderr
    asked = [what for what, _ in api.asked]
    gone = asked.index("DeleteEndpoint")
    assert asked[gone:] == [
        *("DeleteEndpoint", "DescribeEndpoint", "DescribeEndpoint", "CreateModel", "CreateEndpointConfig"),
        *("CreateEndpoint", "DescribeEndpoint", "GET /_moorage/instances"),
    ]

    config = dict(api.asked)["CreateEndpoint"]["EndpointConfigName"]
    api.will("DescribeEndpoint", {**ENDPOINT, "EndpointConfigName": config})
    api.asked.clear()
    again = moorage("run", str(artifact))
    assert again.exit_code == 0, again.output
    assert "wine is in service already, with this artefact and image." in again.stdout
    assert [what for what, _ in api.asked] == ["DescribeEndpoint"]
    assert moorage("run", str(artifact), "--image", "another").exit_code == 1


def test_run_refuses_what_is_no_archive_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"pickle")
    result = moorage("run", str(tmp_path / "model.pkl"))
    assert result.exit_code == 1
    assert "is not a .tar.gz. Pack the model's files with: tar -czf model.tar.gz" in result.stderr


@pytest.mark.parametrize("name", ["bad_name", "-a", "a-", "", "a" * 64])
def test_run_refuses_a_bad_name_before_anything_is_asked(api: Api, tmp_path: Path, name: str) -> None:
    artifact = tmp_path / "wine.tar.gz"
    artifact.write_bytes(b"\x1f\x8b and so on")
    result = moorage("run", str(artifact), "--name", name)
    assert result.exit_code == 2
    assert f"Invalid value for --name: '{name}' is no name for an endpoint" in result.stderr
    assert api.asked == []


def test_a_failed_deployment_gives_the_reason_and_the_way_to_the_log(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = tmp_path / "wine.tar.gz"
    artifact.write_bytes(b"\x1f\x8b and so on")
    failed = {**ENDPOINT, "EndpointStatus": "Failed", "FailureReason": "The container did not pass the ping check."}
    api.will("DescribeEndpoint", NOT_FOUND, failed)
    api.will("GET /_moorage/instances", {"instances": []})
    reply = api.reply
    monkeypatch.setattr(api, "reply", lambda *request: Answer({}) if request[0] == "PUT" else reply(*request))
    for operation in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint"):
        api.will(operation, {})
    result = moorage("run", str(artifact))
    assert result.exit_code == 1
    assert "Failed: The container did not pass the ping check." in result.stderr
    assert "moorage logs wine" in result.stderr


@pytest.mark.parametrize("command", [["logs", "wine", "-f"], ["events", "-f"]], ids=" ".join)
def test_ctrl_c_is_the_normal_end_of_what_follows(api: Api, command: list[str]) -> None:
    Stream(api.data_dir, "a/i-1").say("first")
    detail = {"EndpointName": "wine", "EndpointStatus": "CREATING"}
    event = {"detail-type": "SageMaker Endpoint State Change", "time": "2026-01-02T03:04:05Z", "detail": detail}
    page: dict[str, Any] = {"position": 1, "gone": 0, "webhook": None, "events": []}
    api.will("GET /_moorage/events", {**page, "events": [{"position": 1, "event": event}]}, page)
    script = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    script += "from moorage.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.communicate(timeout=10)[1] == ""
    assert following.returncode == 0


def test_doctor_says_what_holds(api: Api) -> None:
    result = moorage("doctor", "--output", "json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert checks["port"]["found"] == f"Moorage runs at {api.url}, process 4242"
    assert checks["engine"]["state"] in {"ok", "limited"}
    assert all(check["advice"] for check in checks.values() if check["state"] == "broken")


def test_doctor_looks_at_the_engine_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_ENGINE", "process")
    checks = {check["name"]: check for check in json.loads(moorage("doctor", "--output", "json").stdout)}
    assert (checks["engine"]["state"], checks["engine"]["found"].split(",")[0]) == ("limited", "process")
    temporary = checks["each instance has its own /tmp and /dev/shm"]
    assert temporary["found"].startswith("no, because its instances are ordinary processes")
    assert temporary["advice"].startswith("Use the engine sandbox or docker")
    assert temporary["engines"]["process"] is False


@pytest.mark.parametrize(
    ("uid", "state", "found"),
    [(0, "ok", "forked into containers"), (7, "limited", "run in the engine sandbox, because Moorage runs as an")],
)
def test_doctor_says_how_built_in_images_run_with_the_engine_docker(uid: int, state: str, found: str) -> None:
    daemon = Daemon(Address("/s"), "dockerd", "20.10", "1.41")
    machine = Machine({}, "0.8.0", uid, "3.11", 2, 2**34, docker=daemon)
    (check,) = [one for one in machine_checks(machine, "docker", Path("/")) if one.name == "built-in images"]
    assert (check.state, check.found[: len(found)], bool(check.advice)) == (state, found, uid != 0)
    assert "built-in images" not in [one.name for one in machine_checks(machine, "auto", Path("/"))]


def test_doctor_shows_each_promise_and_who_keeps_it() -> None:
    lines = moorage("doctor").stdout.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("promise kept here by"))
    assert lines[head].split()[-3:] == ["docker", "sandbox", "process"]
    assert [line[: len(promise.text)] for line, promise in zip(lines[head + 1 :], PROMISES, strict=True)] == [
        promise.text for promise in PROMISES
    ]


def test_doctor_fails_when_the_data_folder_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOORAGE_DATA_DIR", str(tmp_path / "file" / "data"))
    result = moorage("doctor")
    assert result.exit_code == 1
    assert "broken   data folder" in result.output


def test_bad_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_PING_INTERVAL_SECONDS", "soon")
    assert (
        "MOORAGE_PING_INTERVAL_SECONDS='soon' is not usable: it must be a number, not below 0." in moorage("up").stderr
    )
    account, region = moorage("up", "--account", "12"), moorage("up", "--region", "us east")
    assert "Invalid value for --account: '12' is not usable: it must be 12 digits." in account.stderr
    assert "Invalid value for --region: 'us east' is not usable: it must be small letters, digits" in region.stderr
    assert "leave --data-dir out" in moorage("up", "--ephemeral", "--data-dir", "x").stderr


def test_access_log_in_a_folder_that_is_not_there_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOORAGE_DATA_DIR", raising=False)
    refused = moorage("up", "--access-log", "/nowhere/at/all/log").stderr
    assert "The access log's folder /nowhere/at/all is not there." in refused
