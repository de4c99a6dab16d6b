"""When a dead child is started again."""

from itertools import accumulate

from moorage.supervisor.lives import LONGEST_DELAY_SECONDS, Lives, after_death


def test_the_first_death_costs_no_time() -> None:
    assert after_death(Lives(), lived_seconds=0.0).restart_delay_seconds == 0.0


def test_a_crash_loop_slows_down_to_a_bound() -> None:
    delays = [
        lives.restart_delay_seconds
        for lives in accumulate(range(100), lambda one, _: after_death(one, 0.1), initial=Lives())
    ]
    assert delays[2:6] == [0.1, 0.2, 0.4, 0.8]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_SECONDS


def test_a_steady_life_is_forgiven() -> None:
    looping = after_death(after_death(Lives(), 0.1), 0.1)
    assert after_death(looping, lived_seconds=60.0) == Lives()
