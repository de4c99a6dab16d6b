"""What people are told of capacity, as texts of events (``moorage events``)."""

from collections.abc import Iterable

from moorage.control.planning.placement import Resources, exceeded


def overcommitted(machine: Resources, before: Resources, after: Resources) -> Iterable[str]:
    """Tell that more is promised than there is of something, when it was not before."""
    new = exceeded(machine, after) - exceeded(machine, before)
    if new:
        yield (
            f"More {_listed(sorted(new))} than there are is promised by now: the instances of all endpoints together "
            f"have {after} by their types, and this machine has {machine}. They share what there is. "
            "(MOORAGE_CAPACITY=strict lets wait what does not fit.)"
        )


def fallback(variant: str, wanted: str, got: str, count: int) -> str:
    """Tell that instances are of a pool that is not the first."""
    return f"Capacity of {wanted} is short: {count} instance(s) of the variant {variant} run on {got}."


def waits(variant: str, count: int, needs: str, reservation: str | None, machine: Resources | None) -> str:
    """Tell that there is no room for instances."""
    if reservation is not None:
        return f"{count} instance(s) of the variant {variant} wait for a place of the reservation {reservation}."
    has = "" if machine is None else f" This machine has {machine}, with what others use of it."
    return f"{count} instance(s) of the variant {variant} wait for room: each needs {needs}.{has}"


def machine_image(variant: str, image: str, machine: Resources) -> Iterable[str]:
    """Tell that a machine image stands for drivers of accelerators that the machine has not."""
    if "-neuron-" in image:
        yield f"InferenceAmiVersion {image} of the variant {variant} sets nothing: Moorage has no Neuron devices."
    elif not machine.gpus:
        yield f"InferenceAmiVersion {image} of the variant {variant} sets nothing: this machine has no GPU."


def _listed(names: list[str]) -> str:
    return " and ".join(names)
