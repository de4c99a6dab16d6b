"""The model files are botocore's, and give its shapes."""

import botocore
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.model import StructureShape as BotocoreStructure

from moorage.aws.shapes import StructureShape, load_service

SERVICES = ["sagemaker", "sagemaker-runtime", "sts"]


@pytest.mark.parametrize("name", SERVICES)
def test_all_operation_names_are_known(name: str) -> None:
    model = ServiceModel(Loader().load_service_model(name, "service-2"), name)
    service = load_service(name)
    assert service.all_operation_names == set(model.operation_names)
    assert set(service.operations) < service.all_operation_names or name == "sagemaker-runtime"


@pytest.mark.parametrize("name", SERVICES)
def test_every_structure_has_botocores_members_in_their_order(name: str) -> None:
    model = ServiceModel(Loader().load_service_model(name, "service-2"), name)
    service = load_service(name)
    structures = [shape for shape in map(service.shape, service.shape_names) if isinstance(shape, StructureShape)]
    theirs = {shape.name: model.shape_for(shape.name) for shape in structures}
    assert all(isinstance(shape, BotocoreStructure) for shape in theirs.values())
    assert {s.name: [(m, m in s.required) for m in s.members] for s in structures} == {
        name: [(m, m in shape.required_members) for m in shape.members] for name, shape in theirs.items()
    }


def test_the_version_is_that_of_the_installed_botocore() -> None:
    assert {load_service(name).botocore_version for name in SERVICES} == {botocore.__version__}


def test_a_shape_is_made_once() -> None:
    service = load_service("sagemaker")
    assert service.shape("ModelName") is service.shape("ModelName")
    assert load_service("sagemaker") is service


def test_the_status_of_a_success_is_the_models() -> None:
    operations = load_service("sagemaker-runtime").operations
    assert (operations["InvokeEndpoint"].status, operations["InvokeEndpointAsync"].status) == (200, 202)
