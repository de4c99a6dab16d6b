"""One life of an endpoint by boto3, with its waiters and paginators, whichever version this Python has.

Arguments: the name of all resources, the artefact, the image, a file with rows as CSV. The last line printed is what
was seen, as JSON.
"""

import json
import sys
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/moorage"
WAIT = {"Delay": 1, "MaxAttempts": 120}

name, artefact, image, rows_file = sys.argv[1:]
with Path(rows_file).open() as file:
    rows = file.read()
sagemaker, runtime, s3 = (boto3.client(service) for service in ("sagemaker", "sagemaker-runtime", "s3"))
seen = {"version": boto3.__version__}

s3.create_bucket(Bucket=name)
s3.upload_file(artefact, name, "models/model.tar.gz")
container = {"Image": image, "ModelDataUrl": f"s3://{name}/models/model.tar.gz"}
for suffix in ("", "-1", "-2", "-3", "-4"):
    sagemaker.create_model(ModelName=name + suffix, ExecutionRoleArn=ROLE, PrimaryContainer=container)
variant = {"ModelName": name, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
for suffix in ("", "-1", "-2"):
    sagemaker.create_endpoint_config(
        EndpointConfigName=name + suffix,
        ProductionVariants=[
            {**variant, "VariantName": "left", "InitialVariantWeight": 2},
            {**variant, "VariantName": "right", "InitialVariantWeight": 0.5},
        ],
        Tags=[{"Key": f"key-{number:02}", "Value": "wine"} for number in range(50)],
    )
config = sagemaker.describe_endpoint_config(EndpointConfigName=name)
sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
seen["at_once"] = sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=WAIT)

answer = runtime.invoke_endpoint(
    EndpointName=name, Body=rows, ContentType="text/csv", Accept="application/json", TargetVariant="right"
)
seen["answer"] = json.loads(answer["Body"].read())
seen["by"] = answer["InvokedProductionVariant"]

pages = {
    "models": sagemaker.get_paginator("list_models").paginate(
        NameContains=name, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
    ),
    "configs": sagemaker.get_paginator("list_endpoint_configs").paginate(
        NameContains=name, SortBy="CreationTime", SortOrder="Descending", PaginationConfig={"PageSize": 2}
    ),
    "endpoints": sagemaker.get_paginator("list_endpoints").paginate(NameContains=name, StatusEquals="InService"),
    "tags": sagemaker.get_paginator("list_tags").paginate(ResourceArn=config["EndpointConfigArn"]),
}
seen["models"] = [[one["ModelName"] for one in page["Models"]] for page in pages["models"]]
seen["configs"] = [[one["EndpointConfigName"] for one in page["EndpointConfigs"]] for page in pages["configs"]]
seen["endpoints"] = [one["EndpointName"] for one in pages["endpoints"].search("Endpoints[]")]
seen["tags"] = len(pages["tags"].build_full_result()["Tags"])
cut = sagemaker.get_paginator("list_models").paginate(
    NameContains=name, PaginationConfig={"MaxItems": 3, "PageSize": 2}
)
first = cut.build_full_result()
rest = sagemaker.get_paginator("list_models").paginate(
    NameContains=name, PaginationConfig={"StartingToken": first["NextToken"]}
)
seen["cut"] = [len(first["Models"]), len(rest.build_full_result()["Models"])]

sagemaker.update_endpoint_weights_and_capacities(
    EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "left", "DesiredWeight": 0.25}]
)
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=WAIT)
described = sagemaker.describe_endpoint(EndpointName=name)
seen["weights"] = [one["CurrentWeight"] for one in described["ProductionVariants"]]

sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=f"{name}-1")
sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name, WaiterConfig=WAIT)
seen["updated_to"] = sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]

sagemaker.delete_endpoint(EndpointName=name)
sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=WAIT)
try:
    sagemaker.describe_endpoint(EndpointName=name)
except ClientError as fault:
    seen["gone"] = [fault.response["Error"]["Code"], fault.response["ResponseMetadata"]["HTTPStatusCode"]]
try:
    runtime.invoke_endpoint(EndpointName=name, Body=rows)
except runtime.exceptions.ValidationError as fault:
    seen["not_invoked"] = fault.response["Error"]["Code"]
try:
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
except ClientError as fault:
    seen["twice"] = fault.response["Error"]["Message"]
sys.stdout.write(json.dumps(seen) + "\n")
