from dataclasses import replace

import orjson

from moorage.aws.credentials import Credential
from moorage.routing.snapshot import Capture, Endpoint, Instance, Mode, PrefixAware, Snapshot, Strategy, Variant

KEY = Credential("AKIAEXAMPLEEXAMPLE00", "secret", "000000000000", "tester", ("{}",))
VARIANT = Variant("v", 2.5, "primary", (Instance("i-1", "unix:/run/1.sock"),))
PREFIX = replace(VARIANT, name="p", strategy=Strategy.PREFIX_AWARE, prefix_aware=PrefixAware(1024, 8), coming=True)
PIPELINE = replace(VARIANT, mode=Mode.SERIAL, containers=("a", "b"))
CAPTURE = Capture(12.5, "s3://bucket/prefix", inputs=True, outputs=False, csv_types=("text/csv",), json_types=("a/b",))
ENDPOINT = Endpoint("000000000000", "us-east-1", "ep", "arn", (VARIANT, PREFIX, PIPELINE), (VARIANT,), CAPTURE)


def made_of(*endpoints: Endpoint) -> Snapshot:
    by_key = {(e.account, e.region, e.name): e for e in endpoints}
    return Snapshot(7, {KEY.access_key_id: KEY}, by_key, "secret", {("000000000000", "us-east-1", "ep"): {"k": "v"}})


def test_what_is_written_is_read_again() -> None:
    snapshot = made_of(ENDPOINT)
    assert Snapshot.from_message(orjson.loads(orjson.dumps(snapshot.to_message()))) == snapshot


def test_a_snapshot_of_an_older_version_can_be_read() -> None:
    message = made_of(replace(ENDPOINT, shadows=(), capture=None, variants=(VARIANT,))).to_message()
    (endpoint,) = message["endpoints"]
    for name in ("shadows", "capture"):
        del endpoint[name]
    for name in ("strategy", "prefix_aware", "coming", "mode", "containers"):
        del endpoint["variants"][0][name]
    (read,) = Snapshot.from_message(message).endpoints.values()
    assert read == replace(ENDPOINT, shadows=(), capture=None, variants=(VARIANT,))


def test_the_instances_of_an_endpoint_are_those_of_its_shadows_too() -> None:
    assert [instance.instance_id for instance in ENDPOINT.instances] == ["i-1"] * 4


def test_several_containers_stand_behind_a_front() -> None:
    assert (VARIANT.has_front, PIPELINE.has_front) == (False, True)
