"""THE table of operations: by its name in AWS's model, the function that does it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from moorage.control.operations import (
    endpoint_configs,
    endpoints,
    model_package_groups,
    model_packages,
    models,
    tags,
    updates,
)
from moorage.control.operations.call import Call, Members

Operation = Callable[[Call, Members], Awaitable[dict[str, Any]]]

OPERATIONS: Mapping[str, Operation] = {
    "CreateModel": models.create_model,
    "DescribeModel": models.describe_model,
    "ListModels": models.list_models,
    "DeleteModel": models.delete_model,
    "CreateModelPackage": model_packages.create_model_package,
    "DescribeModelPackage": model_packages.describe_model_package,
    "UpdateModelPackage": model_packages.update_model_package,
    "ListModelPackages": model_packages.list_model_packages,
    "DeleteModelPackage": model_packages.delete_model_package,
    "CreateModelPackageGroup": model_package_groups.create_model_package_group,
    "DescribeModelPackageGroup": model_package_groups.describe_model_package_group,
    "ListModelPackageGroups": model_package_groups.list_model_package_groups,
    "DeleteModelPackageGroup": model_package_groups.delete_model_package_group,
    "CreateEndpointConfig": endpoint_configs.create_endpoint_config,
    "DescribeEndpointConfig": endpoint_configs.describe_endpoint_config,
    "ListEndpointConfigs": endpoint_configs.list_endpoint_configs,
    "DeleteEndpointConfig": endpoint_configs.delete_endpoint_config,
    "CreateEndpoint": endpoints.create_endpoint,
    "DescribeEndpoint": endpoints.describe_endpoint,
    "ListEndpoints": endpoints.list_endpoints,
    "UpdateEndpoint": updates.update_endpoint,
    "UpdateEndpointWeightsAndCapacities": updates.update_endpoint_weights_and_capacities,
    "DeleteEndpoint": endpoints.delete_endpoint,
    "AddTags": tags.add_tags,
    "ListTags": tags.list_tags,
    "DeleteTags": tags.delete_tags,
}
