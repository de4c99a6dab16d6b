"""What people are told of capacity and of images, as texts of events (``moorage events``)."""

from collections.abc import Iterable, Mapping

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


def lost(variant: str, message: str, setbacks: int, delay_seconds: float) -> str:
    """Tell that an instance has ended by itself, for the first time or again and again."""
    what = (
        f"An instance of the variant {variant} has ended{f' ({text})' if (text := message.strip().rstrip('.')) else ''}"
    )
    if setbacks == 1:
        return f"{what}; another takes its place."
    return f"{what}, {setbacks} in a row: the next launch waits {delay_seconds:g} seconds, later ones longer."


def stand_in(variant: str, text: str) -> str:
    """Tell that what runs in an image's place is not quite what the image has."""
    return f"The variant {variant}: {text}"


def waits(variant: str, count: int, needs: str, reservation: str | None, machine: Resources | None) -> str:
    """Tell that there is no room for instances."""
    if reservation is not None:
        return f"{count} instance(s) of the variant {variant} wait for a place of the reservation {reservation}."
    has = "" if machine is None else f" This machine has {machine}, with what others use of it."
    return f"{count} instance(s) of the variant {variant} wait for room: each needs {needs}.{has}"


_DRIVERS: Mapping[str, tuple[int, str]] = {
    "al2-ami-sagemaker-inference-gpu-2": (535, "12.2"),
    "al2-ami-sagemaker-inference-gpu-2-1": (535, "12.2"),
    "al2-ami-sagemaker-inference-gpu-3-1": (550, "12.4"),
    "al2023-ami-sagemaker-inference-gpu-4-1": (580, "13.0"),
}
"""By machine image: the NVIDIA driver and CUDA that it has (the API's model says so)."""


def machine_image(variant: str, image: str, machine: Resources, driver: str) -> Iterable[str]:
    """Tell that the machine has not the accelerators, or an older driver, than a machine image stands for."""
    if "-neuron-" in image:
        yield f"InferenceAmiVersion {image} of the variant {variant} sets nothing: Moorage has no Neuron devices."
    elif not machine.gpus:
        yield f"InferenceAmiVersion {image} of the variant {variant} sets nothing: this machine has no GPU."
    elif image in _DRIVERS and driver and int(driver.partition(".")[0]) < _DRIVERS[image][0]:
        wanted, cuda = _DRIVERS[image]
        yield (
            f"InferenceAmiVersion {image} of the variant {variant} stands for NVIDIA driver {wanted} and CUDA {cuda}, "
            f"and this machine has driver {driver}: what was built for that CUDA may not run."
        )


def _listed(names: list[str]) -> str:
    return " and ".join(names)
