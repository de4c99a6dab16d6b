"""Of which types a variant's instances may be, and what they then run."""

from dataclasses import replace

from moorage.control.planning.pools import images_of, pool_of, pools_of, rank_of, types_of, with_containers
from moorage.state.records import Container, Pool
from moorage.testing.builders import a_variant, an_instance

LARGE, SMALL = "ml.m5.large", "ml.c5.large"
BIG_MODEL, SMALL_MODEL = Container("primary", "image:big", {}, None), Container("primary", "image:small", {}, None)
POOLED = a_variant(pools=(Pool(LARGE, "big", (BIG_MODEL,)), Pool(SMALL, "small", (SMALL_MODEL,), True)))


def test_variant_of_one_type_is_its_only_pool() -> None:
    variant = a_variant(network_isolation=True)
    assert pools_of(variant) == (Pool("ml.m5.large", variant.model_name, variant.containers, True),)
    assert types_of(variant) == ("ml.m5.large",)


def test_instance_is_of_the_pool_of_its_type() -> None:
    assert types_of(POOLED) == (LARGE, SMALL)
    assert pool_of(POOLED, an_instance("i-1", instance_type=SMALL)).model_name == "small"
    assert rank_of(POOLED, an_instance("i-1", instance_type=LARGE)) == 0


def test_instance_that_waits_ranks_last_and_one_of_before_there_were_pools_first() -> None:
    assert rank_of(POOLED, an_instance("i-1", waits_for=(LARGE, SMALL))) == 1
    assert rank_of(a_variant(), an_instance("i-1")) == 0


def test_images_of_all_pools_are_told_once_each() -> None:
    assert images_of(POOLED) == [BIG_MODEL, SMALL_MODEL]
    assert images_of(replace(POOLED, pools=(POOLED.pools[0], POOLED.pools[0]))) == [BIG_MODEL]


def test_containers_are_replaced_in_one_pool_only() -> None:
    resolved = replace(SMALL_MODEL, resolved_image="image@sha256:0", resolved_at=1.0)
    changed = with_containers(POOLED, 1, [resolved])
    assert [pool.containers for pool in changed.pools] == [(BIG_MODEL,), (resolved,)]
    assert with_containers(a_variant(), 0, [resolved]).containers == (resolved,)
