"""What variants keep when their endpoint gets another configuration."""

from moorage.control.planning.retention import retain
from moorage.testing.builders import a_variant

BEFORE = [a_variant("a", 5, desired_weight=3.0), a_variant("gone", 9)]
AFTER = [a_variant("a", 1, desired_weight=1.0, model_name="m2"), a_variant("new", 2)]


def test_variant_of_the_same_name_keeps_count_and_weight_and_nothing_else() -> None:
    assert retain(BEFORE, AFTER, set()) == (a_variant("a", 5, desired_weight=3.0, model_name="m2"), a_variant("new", 2))


def test_excluded_properties_are_the_new_configurations() -> None:
    (counted, _) = retain(BEFORE, AFTER, {"DesiredWeight"})
    assert (counted.desired_count, counted.desired_weight) == (5, 1.0)
    (weighed, _) = retain(BEFORE, AFTER, {"DesiredInstanceCount"})
    assert (weighed.desired_count, weighed.desired_weight) == (1, 3.0)


def test_shadow_of_the_same_name_keeps_what_was_asked_of_it_and_stays_what_the_new_configuration_says() -> None:
    before = [a_variant("a"), a_variant("s", 3, desired_weight=0.2, shadow=True)]
    as_before = [a_variant("a"), a_variant("s", shadow=True, model_name="m2")]
    promoted = [a_variant("s")]
    assert retain(before, as_before, set())[1] == a_variant("s", 3, desired_weight=0.2, shadow=True, model_name="m2")
    assert retain(before, promoted, set()) == (a_variant("s", 3, desired_weight=0.2),)
