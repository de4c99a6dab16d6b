"""Rules about what the instance types of a variant can do: storage, machine images, accelerators (section 5.2)."""

from collections.abc import Iterator

from moorage.aws.instance_types import instance_type
from moorage.control.rules import Members
from moorage.control.rules.variants import Variant, hosts_components, types_of, variants_of


def _all_types(request: Members) -> Iterator[tuple[Variant, str]]:
    return ((variant, name) for variant in variants_of(request) for name in types_of(variant))


def _family(name: str) -> str:
    return name.split(".")[1]


def has_local_storage(name: str) -> bool:
    """Say whether instances of a type keep their data on disks of their own, not on a volume."""
    return instance_type(name).local_storage_gb > 0


def key_has_volumes(request: Members) -> str | None:
    """Refuse a key for volumes of instances that have none (rule 6)."""
    if "KmsKeyId" not in request:
        return None
    local = next((name for _, name in _all_types(request) if has_local_storage(name)), None)
    return None if local is None else f"KmsKeyId is not supported for instance types with local storage: {local}"


def size_has_volumes(request: Members) -> str | None:
    """Refuse a size for volumes of instances that have none (rule 6)."""
    for variant, name in _all_types(request):
        if "VolumeSizeInGB" in variant and has_local_storage(name):
            return f"VolumeSizeInGB is not supported for instance types with local storage: {name}"
    return None


def machine_image_fits(request: Members) -> str | None:
    """Refuse a machine image with drivers for other accelerators than the instances have (rule 13)."""
    for variant, name in _all_types(request):
        image = variant.get("InferenceAmiVersion")
        if image is not None and not (_is_neuron(name) if "-neuron-" in image else _is_gpu(name)):
            return f"InferenceAmiVersion {image} is not supported for the instance type {name}."
    return None


def partitions_have_a_gpu(request: Members) -> str | None:
    """Refuse to partition accelerators of instances without GPUs, and for a model that would not use them."""
    for variant, name in _all_types(request):
        if "AcceleratorPartitionLayouts" not in variant:
            continue
        if not hosts_components(variant):
            return "AcceleratorPartitionLayouts is only supported for inference component endpoints."
        if len(variant["AcceleratorPartitionLayouts"]) > 1:
            return "AcceleratorPartitionLayouts must have a single layout, which is applied to every accelerator."
        if not _is_gpu(name):
            return f"AcceleratorPartitionLayouts is not supported for the instance type {name}."
    return None


def _is_gpu(name: str) -> bool:
    return (instance_type(name).accelerator_kind or "").startswith("NVIDIA")


def _is_neuron(name: str) -> bool:
    """Inferentia of the second generation and Trainium (botocore's description of the image)."""
    return _family(name).startswith(("inf2", "trn"))


RULES = (key_has_volumes, size_has_volumes, machine_image_fits, partitions_have_a_gpu)
