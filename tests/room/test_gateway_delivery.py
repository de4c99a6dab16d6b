"""Delivery: what cannot be delivered waits longer and longer, and is given up in the end; time is passed in."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.capture import BUCKET, FailingStore, HandClock, make_store, objects
from tests.support.gateway import ACCOUNT
from tests.support.objects import kept_bytes, ring_in

from moorage.base.ids import SystemIds
from moorage.gateway.capture.delivery import GIVE_UP_SECONDS, Delivery, delay_after, etag_of
from moorage.gateway.capture.spool import Spool, Target
from moorage.kms.records import Home

TARGET = Target(ACCOUNT, BUCKET, "data/key.jsonl")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FailingStore]:
    made = await make_store(tmp_path)
    yield made
    await asyncio.to_thread(made.close)


def spool_in(folder: Path, limit: int = 10**9) -> Spool:
    return Spool(folder / "spool", SystemIds(), limit, ring_in(folder))


def write(spool: Spool, target: Target, line: bytes = b"{}\n") -> Path:
    file = spool.create(target, 0.0)
    file.append([line], lambda _: None)
    file.flush()
    file.close()
    return file.path


def test_delays_grow_to_a_minute() -> None:
    assert [delay_after(failures) for failures in (1, 2, 3, 7, 1000)] == [1.0, 2.0, 4.0, 60.0, 60.0]


async def test_a_delivered_file_is_whole_under_its_key_and_leaves_the_spool(
    tmp_path: Path, store: FailingStore
) -> None:
    spool = spool_in(tmp_path)
    delivery = Delivery(spool, store, HandClock())
    path = write(spool, TARGET, b"x" * 1_000_000 + b"\n")
    delivery.add(path, TARGET)
    await delivery.finish()
    assert (await store.head(BUCKET, TARGET.key)).size == 1_000_001
    assert (path.exists(), delivery.waiting) == (False, 0)
    assert repr(delivery).startswith("<Delivery: 0 waiting for 0 buckets, DeliveryCounts(delivered=1,")


async def test_a_file_s_object_has_the_same_etag_each_time_and_none_that_looks_like_an_md5(
    tmp_path: Path, store: FailingStore
) -> None:
    spool = spool_in(tmp_path)
    delivery = Delivery(spool, store, HandClock())
    path = write(spool, TARGET)
    store.fails_every_second = True  # when all has been put
    delivery.add(path, TARGET)
    etags = []
    for _ in range(2):
        await delivery.finish()
        etags.append((await store.head(BUCKET, TARGET.key)).etag)
    assert delivery.waiting == 0
    assert etags == [etag_of(path)] * 2
    assert re.fullmatch(r"[0-9a-f]{32}-1", etags[0])


async def test_one_attempt_at_the_end_leaves_the_rest_to_the_next_gateway(tmp_path: Path, store: FailingStore) -> None:
    spool = spool_in(tmp_path)
    delivery = Delivery(spool, store, HandClock())
    missing = replace(TARGET, bucket="missing")
    for target in (missing, missing, TARGET):
        delivery.add(write(spool, target), target)
    await delivery.finish()
    assert (delivery.counts.refusals, delivery.counts.delivered, delivery.waiting) == (1, 1, 2)


async def test_a_file_is_given_up_after_a_day(tmp_path: Path, store: FailingStore) -> None:
    spool, clock = spool_in(tmp_path), HandClock()
    delivery = Delivery(spool, store, clock)
    missing = replace(TARGET, bucket="missing")
    path = write(spool, missing, b"{}\n{}\n{}\n")
    delivery.add(path, missing)
    clock.seconds += path.stat().st_mtime - clock.now() + GIVE_UP_SECONDS - 1
    await delivery.finish()
    assert (delivery.waiting, delivery.counts.given_up) == (1, 0)
    clock.seconds += 1
    await delivery.finish()
    assert (delivery.waiting, delivery.counts.given_up, path.exists()) == (0, 1, False)
    assert delivery.counts.records_given_up == 3


async def test_a_wrong_destination_does_not_take_the_room_of_the_right_ones(
    tmp_path: Path, store: FailingStore
) -> None:
    spool, clock = spool_in(tmp_path, 11_000), HandClock()
    delivery = Delivery(spool, store, clock)
    missing = replace(TARGET, bucket="missing")
    paths = [write(spool, missing, b"x" * 2_000 + b"\n") for _ in range(2)]
    spool.measure()
    clock.seconds += paths[0].stat().st_mtime - clock.now()
    for path in paths:
        delivery.add(path, missing)
    await delivery.finish()
    assert (delivery.counts.given_up, delivery.waiting) == (1, 1)
    assert spool.has_room(4_500)


async def test_a_file_that_cannot_be_read_holds_up_nobody(tmp_path: Path, store: FailingStore) -> None:
    spool = spool_in(tmp_path)
    delivery = Delivery(spool, store, HandClock())
    bad = tmp_path / "a folder"
    bad.mkdir()
    delivery.add(bad, TARGET)
    delivery.add(write(spool, TARGET), TARGET)
    await delivery.finish()
    await delivery.finish()
    assert (delivery.counts.delivered, delivery.counts.failures > 0, delivery.waiting) == (1, True, 1)


async def test_a_file_that_has_gone_is_forgotten(tmp_path: Path, store: FailingStore) -> None:
    delivery = Delivery(spool_in(tmp_path), store, HandClock())
    delivery.add(tmp_path / "gone.jsonl", TARGET)
    await delivery.finish()
    assert delivery.waiting == 0


async def test_what_has_a_key_is_put_encrypted_with_it_and_waits_while_it_is_disabled(
    tmp_path: Path, store: FailingStore
) -> None:
    ring, spool, clock = ring_in(tmp_path), spool_in(tmp_path), HandClock()
    key = ring.create_key(Home(ACCOUNT, "us-east-1"))
    delivery = Delivery(spool, store, clock)
    target = replace(TARGET, region="us-east-1", kms_key=key.arn)
    delivery.add(write(spool, target, b"a secret\n"), target)
    ring.disable(key)
    await delivery.finish()
    assert (delivery.counts.failures, delivery.waiting) == (1, 1)
    ring.enable(key)
    await delivery.finish()
    info = await store.head(BUCKET, TARGET.key)
    assert info.encryption is not None
    assert (info.encryption.key, delivery.waiting) == (key.arn, 0)
    assert b"a secret" not in kept_bytes(tmp_path)
    assert await objects(store) == {TARGET.key: b"a secret\n"}
