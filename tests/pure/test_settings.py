"""Settings: the environment lies over the defaults, and every one of them is documented."""

import dataclasses
import re
from pathlib import Path

import pytest

from moorage.base.settings import Limits, Settings, UnusableSetting, from_environment, run_dir_of

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
SETTINGS = Settings(Path("/data"), Path("/run"))
NAMES = {"data_dir", *(field.name for kind in (Settings, Limits) for field in dataclasses.fields(kind))}
NAMES -= {"limits", "run_dir"}


def documented() -> dict[str, str]:
    """Give name and default of each row of the page's tables."""
    return dict(re.findall(r"^\| `MOORAGE_([A-Z_]+)` \| (?:`([^`]*)`)?", PAGE, re.MULTILINE))


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert documented().keys() == {name.upper() for name in NAMES}


FOUND = {"data_dir", "environments_dir", "access_log", "kms_key_file", "tls_cert", "tls_key"}
FOUND |= {"node_vcpus", "node_memory_mib", "node_gpus"}
"""Those whose default is found out, or is that there is none."""


@pytest.mark.parametrize("name", sorted(NAMES - FOUND))
def test_the_documented_default_is_the_default(name: str) -> None:
    owner = SETTINGS if hasattr(SETTINGS, name) else SETTINGS.limits
    text = documented()[name.upper()]
    kind = type(getattr(owner, name))
    assert kind(text) == getattr(owner, name)


def test_the_environment_lies_over_the_defaults() -> None:
    found = from_environment(
        SETTINGS, {"MOORAGE_PORT": "9", "MOORAGE_PING_INTERVAL_SECONDS": "0.5", "MOORAGE_ENVIRONMENTS_DIR": "/e"}
    )
    assert (found.port, found.limits.ping_interval_seconds, found.environments) == (9, 0.5, Path("/e"))
    assert found.limits.ping_timeout_seconds == SETTINGS.limits.ping_timeout_seconds


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("PORT", "many", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("PING_TIMEOUT_SECONDS", "soon", "a number, not below 0"),
        ("INVOCATION_TIMEOUT_SECONDS", "-4", "a number, not below 0"),
        ("STOP_GRACE_SECONDS", "nan", "a number, not below 0"),
        ("STARTUP_TIMEOUT_SECONDS", "inf", "a number, not below 0"),
        ("ARTIFACT_BYTES", "-1", "a whole number, not below 0"),
        ("GATEWAYS", "0", "a whole number from 1 to 64"),
        ("ACCOUNT", "12", "12 digits"),
        ("CAPACITY", "some", "overcommit or strict"),
        ("NODE_VCPUS", "-1", "auto, or a whole number, not below 0"),
        ("METRICS_TOKEN", "two words", "printable ASCII characters without blanks"),
        ("REGION", "us east", "small letters, digits and single hyphens, such as us-east-1"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(name: str, text: str, wanted: str) -> None:
    with pytest.raises(UnusableSetting, match=f"MOORAGE_{name}='{text}' is not usable: it must be {wanted}."):
        from_environment(SETTINGS, {f"MOORAGE_{name}": text})


def test_the_machines_size_is_found_out_or_said() -> None:
    said = {"MOORAGE_NODE_VCPUS": "3", "MOORAGE_NODE_MEMORY_MIB": "auto", "MOORAGE_CAPACITY": "strict"}
    found = from_environment(SETTINGS, said)
    assert (found.capacity, found.node_vcpus, found.node_memory_mib, found.node_gpus) == ("strict", 3, None, None)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MOORAGE_PING_INTERVAL", "MOORAGE_PING_INTERVAL_SECONDS"),
        ("MOORAGE_DATADIR", "MOORAGE_DATA_DIR"),
        ("MOORAGE_EVENTS_WEBHOOK", "MOORAGE_EVENT_WEBHOOK"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(UnusableSetting, match=f"There is no setting {name}. The nearest is {nearest};"):
        from_environment(SETTINGS, {name: "1", "MOORAGE_PORT": "9"})


@pytest.mark.parametrize("url", ["ftp://a/", "http://", "hook", "http://user:secret@a/", "http://a b/", "http://[/"])
def test_a_webhook_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(UnusableSetting, match="it must be an http or https URL without a password"):
        from_environment(SETTINGS, {"MOORAGE_EVENT_WEBHOOK": url})


def test_quotas_are_a_json_object_by_the_names_of_aws() -> None:
    text = '{"ml.m5.large for endpoint usage": 4, "Number of instances across active endpoints": 0}'
    found = from_environment(SETTINGS, {"MOORAGE_QUOTAS": text})
    assert found.quotas == {"ml.m5.large for endpoint usage": 4, "Number of instances across active endpoints": 0}


@pytest.mark.parametrize(
    "text", ["4", "{", '{"ml.m5.large": 4}', '{"ml.m5.large for endpoint usage": "4"}', "[1]", "null"]
)
def test_quotas_that_would_limit_nothing_are_named(text: str) -> None:
    with pytest.raises(UnusableSetting, match="it must be a JSON object of quotas and whole numbers, such as"):
        from_environment(SETTINGS, {"MOORAGE_QUOTAS": text})


def test_settings_survive_the_way_to_another_process() -> None:
    given = dataclasses.replace(
        SETTINGS,
        port=1,
        quotas={"a": 1},
        environments_dir=Path("/e"),
        access_log=Path("/log"),
        limits=Limits(api_body_bytes=5),
    )
    assert Settings.from_message(given.to_message()) == given


def test_token_is_no_argument_that_everybody_could_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_METRICS_TOKEN", "s3cret")
    given = dataclasses.replace(SETTINGS, metrics_token="s3cret")
    assert "s3cret" not in repr(given)
    assert "s3cret" not in str(given.to_message())
    assert Settings.from_message(given.to_message()) == given


def test_access_log_is_the_same_file_wherever_a_process_stands() -> None:
    found = from_environment(SETTINGS, {"MOORAGE_ACCESS_LOG": "access.jsonl"})
    assert found.access_log == Path("access.jsonl").absolute()
    assert from_environment(SETTINGS, {"MOORAGE_ACCESS_LOG": ""}).access_log is None


def test_a_folder_of_sockets_belongs_to_one_data_folder_and_is_short() -> None:
    long = Path("/" + "x" * 200)
    assert run_dir_of(long) == run_dir_of(long)
    assert run_dir_of(long) != run_dir_of(Path("/y"))
    assert len(str(run_dir_of(long))) < 60
