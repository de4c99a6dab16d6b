"""Sticky sessions as gateways keep them: in files that all of them see."""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.gateway import ACCOUNT, REGION, RacingClock, endpoint, until
from tests.support.routing import variant

from moorage.aws.errors import ClientFault, ModelFault, OurFault, ServiceError
from moorage.base.chance import seeded_chance
from moorage.base.tasks import Tasks
from moorage.gateway.session_stages import choose_bound, find_session, settle
from moorage.gateway.sessions import UNFINISHED_SECONDS, Sessions, SessionTaken
from moorage.routing.choice import Choice, Refusal
from moorage.routing.conditions import Conditions
from moorage.routing.decide import Routes, decide, make_routes
from moorage.routing.sessions import NEW_SESSION, Binding
from moorage.routing.snapshot import Endpoint, Variant

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
LATER = b"2023-11-14T23:00:00Z"
EP = endpoint("ep", variant("a", 1, 3), variant("b", 1, 1))
NEW = b"X-Amzn-SageMaker-New-Session-Id"
CLOSED = b"X-Amzn-SageMaker-Closed-Session-Id"


def make_sessions(folder: Path, per_endpoint: int = 100) -> Sessions:
    return Sessions(folder / "sessions", per_endpoint=per_endpoint, session_seconds=1200)


def make_binding(session_id: str = "s", *, instance: str = "a-1", expires: float = NOW + 60) -> Binding:
    return Binding(ACCOUNT, REGION, "ep", session_id, "a", instance, expires, version=1)


def files(folder: Path) -> list[Path]:
    # Not rglob: a folder may be removed while it is looked into, which os.walk takes for an empty one.
    return [Path(parent, name) for parent, _folders, names in os.walk(folder) for name in names]


# The store


def test_two_gateways_see_each_others_sessions(tmp_path: Path) -> None:
    one, other = make_sessions(tmp_path), make_sessions(tmp_path)
    one.open(EP, make_binding(), NOW)
    assert other.find(EP, "s", NOW) == make_binding()
    other.close(EP, "s")
    assert one.find(EP, "s", NOW) is None
    one.close(EP, "s")


def test_sessions_belong_to_one_endpoint_of_one_account_and_region(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path)
    sessions.open(EP, make_binding(), NOW)
    others = [replace(EP, name="Ep"), replace(EP, account="111111111111"), replace(EP, region="eu-west-1")]
    assert [sessions.find(other, "s", NOW) for other in others] == [None, None, None]


def test_a_session_ends_when_it_expires(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path)
    sessions.open(EP, make_binding(), NOW)
    assert sessions.find(EP, "s", NOW + 59.9) is not None
    assert sessions.find(EP, "s", NOW + 60) is None
    assert files(tmp_path) == []


def test_a_session_that_has_expired_already_is_not_kept(tmp_path: Path) -> None:
    make_sessions(tmp_path).open(EP, make_binding(expires=-6e10), NOW)
    assert files(tmp_path) == []


def test_a_session_may_last_as_long_as_years_have_four_digits(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path)
    sessions.open(EP, make_binding(expires=253402300799.0), NOW)
    sessions.sweep(NOW)
    assert sessions.find(EP, "s", NOW) is not None


def test_an_id_in_use_at_another_instance_is_not_taken_over(tmp_path: Path) -> None:
    one, other = make_sessions(tmp_path), make_sessions(tmp_path)
    one.open(EP, make_binding(), NOW)
    with pytest.raises(SessionTaken):
        other.open(EP, make_binding(instance="a-2"), NOW)
    other.open(EP, make_binding(instance="a-2", expires=NOW + 99), NOW + 60)
    assert one.find(EP, "s", NOW + 60) == make_binding(instance="a-2", expires=NOW + 99)


def test_the_same_instance_may_open_a_session_anew(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path)
    sessions.open(EP, make_binding(), NOW)
    sessions.open(EP, make_binding(expires=NOW + 99), NOW)
    assert sessions.find(EP, "s", NOW + 80) is not None
    assert repr(sessions) == "<Sessions: 1 of 1 endpoints, 0 refused>"


def test_of_many_gateways_that_bind_one_id_one_wins(tmp_path: Path) -> None:
    gateways = [make_sessions(tmp_path) for _ in range(8)]

    def bind(number: int) -> bool:
        try:
            gateways[number].open(EP, make_binding(instance=f"a-{number}"), NOW)
        except SessionTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(bind, range(8)))
    kept = gateways[0].find(EP, "s", NOW)
    assert kept is not None
    assert [number for number, has_won in enumerate(won) if has_won] == [int(kept.instance_id[2:])]
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize(
    "hostile", ["../x", "../../x", "/etc/passwd", "..", ".", "", "a/b", "a\0b", "é" * 200, "x" * 1000, ".x"]
)
def test_no_id_leads_out_of_the_folder(tmp_path: Path, hostile: str) -> None:
    inside = tmp_path / "inside"
    sessions = make_sessions(inside)
    named = replace(EP, name=hostile)
    for of in (EP, named):
        assert sessions.find(of, hostile, NOW) is None
        sessions.open(of, make_binding(hostile), NOW)
        assert sessions.find(of, hostile, NOW) == make_binding(hostile)
    kept = files(tmp_path)
    assert {path.parent.parent for path in kept} == {inside / "sessions"}
    assert all(path.name.isalnum() and len(path.name) == 32 for path in kept)
    for of in (EP, named):
        sessions.close(of, hostile)
    assert files(tmp_path) == []


def test_nobody_else_may_read_them(tmp_path: Path) -> None:
    make_sessions(tmp_path).open(EP, make_binding(), NOW)
    (file,) = files(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]


@pytest.mark.parametrize("content", [b"", b"{", b'{"account": 7}'])
def test_a_file_that_lost_its_content_is_no_session(tmp_path: Path, content: bytes) -> None:
    sessions = make_sessions(tmp_path)
    sessions.open(EP, make_binding(), NOW)
    files(tmp_path)[0].write_bytes(content)
    assert sessions.find(EP, "s", NOW) is None
    sessions.open(EP, make_binding(instance="a-2"), NOW)
    assert sessions.find(EP, "s", NOW) == make_binding(instance="a-2")


def test_an_endpoint_has_no_more_sessions_than_it_may(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path, per_endpoint=2)
    sessions.open(EP, make_binding("one"), NOW)
    assert sessions.has_room(EP)
    sessions.open(EP, make_binding("two"), NOW)
    assert not sessions.has_room(EP)
    assert sessions.has_room(replace(EP, name="other"))
    sessions.close(EP, "one")
    assert sessions.has_room(EP)
    assert repr(sessions) == "<Sessions: 1 of 1 endpoints, 1 refused>"


def test_a_sweep_takes_what_has_expired_and_counts_what_others_have_opened(tmp_path: Path) -> None:
    sessions, other = make_sessions(tmp_path, per_endpoint=2), make_sessions(tmp_path)
    for name, expires in (("one", 10), ("two", 20), ("three", 20)):
        other.open(EP, make_binding(name, expires=NOW + expires), NOW)
    assert sessions.has_room(EP)
    sessions.sweep(NOW)
    assert not sessions.has_room(EP)
    sessions.sweep(NOW + 10)
    assert (not sessions.has_room(EP), len(files(tmp_path))) == (True, 2)
    sessions.sweep(NOW + 20)
    assert sessions.has_room(EP)
    assert list((tmp_path / "sessions").iterdir()) == []
    other.open(EP, make_binding("four"), NOW)
    assert other.find(EP, "four", NOW) is not None


def test_a_sweep_takes_what_a_killed_gateway_has_not_finished(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path)
    sessions.open(EP, make_binding(), NOW)
    (file,) = files(tmp_path)
    unfinished = file.with_name(f".{file.name}.abcd")
    unfinished.write_bytes(b"{")
    os.utime(unfinished, (NOW, NOW))
    (file.parent / "somebody's").mkdir()
    sessions.sweep(NOW + UNFINISHED_SECONDS - 1)
    assert unfinished.exists()
    sessions.open(EP, make_binding(expires=NOW + 999), NOW)
    sessions.sweep(NOW + UNFINISHED_SECONDS)
    assert files(tmp_path) == [file]


def test_a_sweep_of_nothing_is_no_mistake(tmp_path: Path) -> None:
    sessions = make_sessions(tmp_path)
    sessions.sweep(NOW)
    assert repr(sessions) == "<Sessions: 0 of 0 endpoints, 0 refused>"


async def test_sweeping_goes_on_until_it_is_ended(tmp_path: Path) -> None:
    sessions, tasks = make_sessions(tmp_path), Tasks()
    tasks.start("sweeping", sessions.keep_swept(RacingClock(1000.0)))
    for _ in range(2):
        sessions.open(EP, make_binding(), NOW)  # which is long ago
        await until(lambda: not files(tmp_path))
    await asyncio.wait_for(tasks.close(), 10)


OPEN = """
import itertools, sys
from pathlib import Path
from moorage.gateway.sessions import Sessions
from moorage.routing.sessions import Binding
from moorage.routing.snapshot import Endpoint
sessions = Sessions(Path(sys.argv[1]), per_endpoint=10**9, session_seconds=1200)
endpoint = Endpoint("0", "r", "ep", "arn", ())
for number in itertools.count():
    sessions.open(endpoint, Binding("0", "r", "ep", f"s{number}", "a", f"i-{number}", 2e9, 1), 1e9)
    print(f"s{number}", flush=True)
"""


@pytest.mark.parametrize("after", [1, 50, 333])
def test_sessions_survive_a_kill_of_their_gateway_and_none_is_half_there(tmp_path: Path, after: int) -> None:
    folder = tmp_path / "sessions"
    told: list[str] = []
    with subprocess.Popen([sys.executable, "-c", OPEN, folder], stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        for line in gateway.stdout:
            told.append(line.strip())
            if len(told) == after:
                gateway.kill()
    sessions, of = make_sessions(tmp_path), Endpoint("0", "r", "ep", "arn", ())
    assert all(sessions.find(of, name, 1e9) is not None for name in told)
    whole = [path for path in files(folder) if not path.name.startswith(".")]
    assert len(whole) - len(told) in {0, 1}
    assert all(Binding.from_bytes(path.read_bytes()).expires == 2e9 for path in whole)


# What invocations have to do with them


class Gateway:
    """What a gateway does with an invocation, so far as sessions go."""

    def __init__(self, sessions: Sessions, routes: Routes, version: int = 1) -> None:
        self.sessions, self.routes, self.version = sessions, routes, version
        self.now = NOW
        self.chance = seeded_chance(1)
        self.asked: list[str] = []

    def invoke(
        self,
        session_id: str | None,
        *answer: tuple[bytes, bytes],
        target: str | None = None,
        refusing: Collection[str] = (),
    ) -> dict[bytes, bytes]:
        """Give the session headers that the client sees."""
        members = {"SessionId": session_id} if session_id else {}
        of = self.routes.endpoint
        binding = find_session(self.sessions, of, members, self.now)
        choice = self._choose(binding, target, set())
        if choice.instance.instance_id in refusing:
            choice = self._choose(binding, target, {choice.instance.instance_id})
        self.asked.append(choice.instance.instance_id)
        if session_id is None:
            return {}
        return dict(
            settle(self.sessions, of, session_id, choice=choice, version=self.version, raw_headers=answer, now=self.now)
        )

    def _choose(self, binding: Binding | None, target: str | None, tried: set[str]) -> Choice:
        conditions = Conditions()
        decision: Choice | Refusal
        if binding is None:
            decision = decide(self.routes, target, self.chance, conditions, tried=tried)
        else:
            decision = choose_bound(
                self.sessions,
                self.routes,
                binding,
                conditions,
                version=self.version,
                target_variant=target,
                tried=tried,
            )
        if isinstance(decision, Refusal):
            raise OurFault("ServiceUnavailable", decision.value, status=503)
        return decision

    def fails(
        self, session_id: str | None, *answer: tuple[bytes, bytes], **more: str | Collection[str]
    ) -> ServiceError:
        with pytest.raises(ServiceError) as failed:
            self.invoke(session_id, *answer, **more)  # type: ignore[arg-type]
        return failed.value


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(make_sessions(tmp_path, per_endpoint=3), make_routes(EP))


def gone(fault: ServiceError, session_id: str = "s-1") -> bool:
    text = f"Session {session_id} not found or expired for endpoint ep."
    return (type(fault), fault.code, fault.status, fault.message) == (ClientFault, "ValidationError", 400, text)


def test_a_session_is_opened_used_and_closed_at_one_instance(gateway: Gateway) -> None:
    told = gateway.invoke(NEW_SESSION, (b"x-amzn-sagemaker-session-id", b"s-1; Expires=" + LATER))
    assert told == {NEW: b"s-1; Expires=" + LATER}
    for _ in range(20):
        assert gateway.invoke("s-1", (b"X-Amzn-SageMaker-Session-Id", b"s-1")) == {}
    assert gateway.invoke("s-1", (CLOSED, b"s-1")) == {CLOSED: b"s-1"}
    assert (len(gateway.asked), len(set(gateway.asked))) == (22, 1)
    assert gone(gateway.fails("s-1"))


def test_without_an_end_of_the_container_s_a_session_has_the_end_of_the_setting(gateway: Gateway) -> None:
    assert gateway.invoke(NEW_SESSION, (NEW, b"s-1")) == {NEW: b"s-1; Expires=2023-11-14T22:33:20Z"}
    gateway.now += 1199
    gateway.invoke("s-1")
    gateway.now += 1
    assert gone(gateway.fails("s-1"))


def test_invocations_without_a_session_have_nothing_to_do_with_them(gateway: Gateway, tmp_path: Path) -> None:
    assert gateway.invoke(None, (NEW, b"s-1"), (CLOSED, b"s-1")) == {}
    assert not (tmp_path / "sessions").exists()


def test_a_container_that_does_no_sessions_answers_as_ever(gateway: Gateway) -> None:
    assert gateway.invoke(NEW_SESSION, (b"X-Amzn-SageMaker-Session-Id", b"NEW_SESSION")) == {}
    assert gateway.invoke(NEW_SESSION, (b"Content-Type", b"text/csv")) == {}


def test_a_new_session_may_name_its_variant_and_keeps_it(gateway: Gateway) -> None:
    gateway.invoke(NEW_SESSION, (NEW, b"s-1"), target="b")
    gateway.invoke("s-1", target="b")
    assert gateway.asked == ["b-0", "b-0"]
    fault = gateway.fails("s-1", target="a")
    assert (fault.code, fault.message) == (
        "ValidationError",
        "Session s-1 of endpoint ep is bound to variant b, not to a.",
    )
    gateway.invoke("s-1")


def test_an_unknown_session_is_not_found(gateway: Gateway) -> None:
    assert gone(gateway.fails("never-seen"), "never-seen")


def test_a_session_is_lost_with_its_instance_and_never_goes_elsewhere(gateway: Gateway) -> None:
    gateway.invoke(NEW_SESSION, (NEW, b"s-1"))
    home = gateway.asked[0]
    others = replace(EP, variants=tuple(_without(v, home) for v in EP.variants))
    gateway.routes = make_routes(others)
    assert gone(gateway.fails("s-1"))
    gateway.routes = make_routes(EP)
    assert gone(gateway.fails("s-1"))


def _without(one: Variant, instance_id: str) -> Variant:
    return replace(one, instances=tuple(i for i in one.instances if i.instance_id != instance_id))


def test_a_session_is_lost_when_its_instance_refuses(gateway: Gateway) -> None:
    gateway.invoke(NEW_SESSION, (NEW, b"s-1"))
    assert gone(gateway.fails("s-1", refusing=gateway.asked))
    assert gone(gateway.fails("s-1"))
    assert len(gateway.asked) == 1


def test_a_new_session_whose_first_instance_refuses_is_bound_to_the_second(gateway: Gateway) -> None:
    gateway.invoke(NEW_SESSION, (NEW, b"s-1"), target="a", refusing={"a-0", "a-1"})
    assert gateway.invoke("s-1") == {}
    assert set(gateway.asked) == {"a-2"}


def test_a_gateway_that_is_behind_does_not_lose_the_sessions_of_new_instances(gateway: Gateway, tmp_path: Path) -> None:
    ahead = Gateway(make_sessions(tmp_path), make_routes(endpoint("ep", variant("a", 1, 9))), version=2)
    ahead.invoke(NEW_SESSION, (NEW, b"s-1"), refusing={"a-0", "a-1", "a-2"})
    ahead.sessions.close(EP, "s-1")
    ahead.sessions.open(EP, replace(make_binding("s-1", instance="a-8"), version=2), NOW)
    assert gateway.fails("s-1").status == 503
    assert ahead.invoke("s-1") == {}
    gateway.version = 2
    assert gone(gateway.fails("s-1"))


def test_too_many_sessions_are_refused_before_the_container_hears_of_them(gateway: Gateway) -> None:
    for number in range(3):
        gateway.invoke(NEW_SESSION, (NEW, b"s-%d" % number))
    fault = gateway.fails(NEW_SESSION, (NEW, b"s-4"))
    assert (fault.code, fault.message) == (
        "ValidationError",
        "Endpoint ep has as many open sessions as it may have. Close one, or wait until one expires, and try again.",
    )
    assert len(gateway.asked) == 3
    gateway.invoke("s-1", (CLOSED, b"s-1"))
    gateway.invoke(NEW_SESSION, (NEW, b"s-4"))


def test_another_session_s_close_closes_nothing(gateway: Gateway) -> None:
    gateway.invoke(NEW_SESSION, (NEW, b"s-1"))
    gateway.invoke(NEW_SESSION, (NEW, b"s-2"))
    assert gateway.invoke("s-1", (CLOSED, b"s-2")) == {}
    gateway.invoke("s-2")


def test_two_clients_never_share_a_session_that_two_instances_gave_the_same_id(gateway: Gateway) -> None:
    gateway.invoke(NEW_SESSION, (NEW, b"1"), target="a")
    fault = gateway.fails(NEW_SESSION, (NEW, b"1"), target="b")
    assert (type(fault), fault.code, fault.status) == (ModelFault, "ModelError", 424)
    assert fault.message.startswith("primary has opened a session with the id 1, which another instance")
    gateway.invoke("1")
    assert gateway.asked[-1].startswith("a-")


def test_a_session_that_cannot_be_kept_is_not_given_to_the_client(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "sessions").write_bytes(b"in the way")
    fault = gateway.fails(NEW_SESSION, (NEW, b"s-1"))
    assert (type(fault), fault.code, fault.status) == (OurFault, "InternalFailure", 500)
