"""What variants keep when their endpoint gets another configuration (control-plane.md section 5.3)."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from moorage.state.records import DeployedVariant

COUNT = "DesiredInstanceCount"
WEIGHT = "DesiredWeight"


def retain(
    before: Sequence[DeployedVariant], after: Sequence[DeployedVariant], excluded: Collection[str]
) -> tuple[DeployedVariant, ...]:
    """Let variants that keep their name keep what was asked of them; the others start as their configuration says."""
    asked = {variant.name: variant for variant in before}
    return tuple(_retain(asked.get(variant.name, variant), variant, excluded) for variant in after)


def _retain(before: DeployedVariant, after: DeployedVariant, excluded: Collection[str]) -> DeployedVariant:
    return replace(
        after,
        desired_count=after.desired_count if COUNT in excluded else before.desired_count,
        desired_weight=after.desired_weight if WEIGHT in excluded else before.desired_weight,
    )
