"""One life of an endpoint by the resources of the SageMaker Python SDK 3.

Arguments: the URI of a model's artefact, the image, a file with rows as CSV. The last line printed is what was seen, as
JSON.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from urllib.request import Request, urlopen

from botocore.exceptions import ClientError
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant, Tag
from sagemaker.core.token_generator import generate_token

ROLE = "arn:aws:iam::000000000000:role/moorage"

model_data, image, rows_file = sys.argv[1:]
with Path(rows_file).open() as file:
    rows = file.read()
seen = {}

with contextlib.redirect_stdout(sys.stderr):  # the waits draw on the terminal
    model = Model.create(
        model_name="sdk-three",
        primary_container=ContainerDefinition(image=image, model_data_url=model_data, environment={"GREETING": "ahoy"}),
        execution_role_arn=ROLE,
        tags=[Tag(key="team", value="cellar")],
    )
    variants = [
        ProductionVariant(
            variant_name=name,
            model_name=model,
            initial_instance_count=1,
            instance_type="ml.m5.large",
            initial_variant_weight=weight,
        )
        for name, weight in (("left", 1.0), ("right", 2.0))
    ]
    config = EndpointConfig.create(endpoint_config_name="sdk-three", production_variants=variants)
    endpoint = Endpoint.create(endpoint_name="sdk-three", endpoint_config_name=config)
    seen["at_once"] = endpoint.endpoint_status
    endpoint.wait_for_status("InService", poll=1, timeout=120)
    endpoint.refresh()
    seen["settled"] = endpoint.endpoint_status
    seen["variants"] = [[one.variant_name, one.current_weight] for one in endpoint.production_variants]

    answer = endpoint.invoke(body=rows, content_type="text/csv", accept="application/json", target_variant="right")
    seen["answer"] = json.loads(answer.body.read())
    seen["by"] = answer.invoked_production_variant
    try:
        endpoint.invoke(body="not numbers", content_type="text/csv")
    except ClientError as fault:
        seen["refused"] = fault.response["Error"]["Code"]

    address = f"{os.environ['AWS_ENDPOINT_URL']}/endpoints/sdk-three/openai/v1/chat/completions"
    headers = {"Authorization": f"Bearer {generate_token()}", "Content-Type": "text/csv", "Accept": "application/json"}
    with urlopen(Request(address, rows.encode(), headers)) as completion:
        seen["by_token"] = json.load(completion)

    other = EndpointConfig.create(endpoint_config_name="other-three", production_variants=variants[:1])
    endpoint.endpoint_config_name = "other-three"
    endpoint.update(retain_all_variant_properties=False)
    endpoint.wait_for_status("InService", poll=1, timeout=120)
    seen["after_update"] = [one.variant_name for one in endpoint.production_variants]

    seen["got"] = [
        Model.get("sdk-three").primary_container.environment,
        EndpointConfig.get("sdk-three").production_variants[1].variant_name,
        Endpoint.get("sdk-three").endpoint_arn,
    ]
    seen["all"] = [
        [one.model_name for one in Model.get_all(name_contains="sdk-three")],
        [one.endpoint_config_name for one in EndpointConfig.get_all(name_contains="sdk-three")],
        [one.endpoint_name for one in Endpoint.get_all(name_contains="sdk-three", status_equals="InService")],
    ]

    endpoint.delete()
    endpoint.wait_for_delete(poll=1, timeout=60)
    config.delete()
    other.delete()
    model.delete()
    seen["left"] = [one.endpoint_name for one in Endpoint.get_all(name_contains="sdk-three")]
    try:
        Endpoint.get("sdk-three")
    except ClientError as fault:
        seen["gone"] = fault.response["Error"]["Message"]

sys.stdout.write(json.dumps(seen) + "\n")
