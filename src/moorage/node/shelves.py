"""The folders of multi-model containers, and what their fronts are told of them (``front.models``).

    data_dir/models/.instances/INSTANCE/CONTAINER/      one folder a model; or on the instance's encrypted disk

The front brings models and takes them away while the container runs and sees them, read-only, at ``/opt/ml/models``.
"""

from dataclasses import dataclass
from pathlib import Path

from moorage.aws.instance_types import instance_type
from moorage.base.removal import remove_tree
from moorage.base.settings import Settings
from moorage.engine.contract import MULTI_MODEL, ContainerSpec, InstanceSpec
from moorage.engine.launch import Launch, ServingLaunch
from moorage.engine.volumes import Volume
from moorage.front.spec import ManyModels
from moorage.serving.isolation import MODELS_FOLDER

_FOLDER = ".instances"
"""Begins with a dot: what is in it is no artefact (``engine.artifacts``)."""

_ON_A_DISK = "models"

_MORE_LOADS_UNCACHED = 4
"""Times the vCPUs: without a cache each invocation loads its model (data-plane.md section 8.1)."""


def has_front(spec: InstanceSpec) -> bool:
    """Say whether a front stands before an instance's containers."""
    return len(spec.containers) > 1 or any(container.mode == MULTI_MODEL for container in spec.containers)


@dataclass(frozen=True, slots=True)
class Shelves:
    """The folders of models on this machine. Its methods block."""

    settings: Settings
    machine_cpus: int
    sees_machine: bool
    """A built-in container has no view of its own: it sees the folders where they are (the engine ``process``)."""

    @property
    def _artifacts(self) -> Path:
        return self.settings.data_dir / "models"

    def _of(self, spec: InstanceSpec) -> Path:
        return self._artifacts / _FOLDER / spec.instance_id

    def make(self, spec: InstanceSpec, container: ContainerSpec, volume: Path | None) -> Path:
        """Make the folder of a container's models, empty; on its disk where that is encrypted. Raises OSError."""
        if spec.kms_key is not None and volume is not None:
            folder = volume / _ON_A_DISK
        else:
            folder = self._of(spec) / container.name
        remove_tree(folder)
        folder.mkdir(mode=0o755, parents=True)
        return folder

    def many_models(self, spec: InstanceSpec, container: ContainerSpec, launch: Launch) -> ManyModels:
        """Say what the front is to know of a container's models."""
        built_in = isinstance(launch, ServingLaunch)
        alone = spec.kms_key is not None and launch.volume is not None
        artifacts = Volume(launch.volume).artifacts if alone and launch.volume is not None else self._artifacts
        loads = max(1, min(instance_type(spec.instance_type).vcpus, self.machine_cpus))
        return ManyModels(
            prefix=container.model.uri if container.model is not None else "",
            account=spec.account,
            folder=str(launch.models),
            seen_at=str(launch.models) if built_in and self.sees_machine else MODELS_FOLDER,
            artifacts=str(artifacts),
            alone=alone,
            caches=container.caches_models,
            most_loads=loads if container.caches_models else _MORE_LOADS_UNCACHED * loads,
            one_each=built_in,
            code=submitted_code(container),
        )

    def clear(self, spec: InstanceSpec) -> None:
        """Remove an instance's folders."""
        remove_tree(self._of(spec))

    def clear_leftovers(self) -> None:
        """Remove what a killed node agent has left."""
        remove_tree(self._artifacts / _FOLDER)


def submitted_code(container: ContainerSpec) -> str | None:
    """Give the URI of code beside the artefact, as the SageMaker SDK submits it (data-plane.md section 9.1)."""
    submitted = container.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
    return submitted if submitted.startswith("s3://") else None
