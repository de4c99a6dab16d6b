"""One life of an endpoint by the SageMaker Python SDK 2: deploy, predict, update, delete.

Arguments: the artefact of a model, the code of another, a file with rows as JSON. The last line printed is what was
seen, as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.serializers import CSVSerializer
from sagemaker.sklearn.model import SKLearnModel

ROLE = "arn:aws:iam::000000000000:role/moorage"
BUCKET = "sdk-two"

artefact, code, rows_file = sys.argv[1:]
with Path(rows_file).open() as file:
    rows = json.load(file)
seen = {}

# The SDK asks STS at its public address for the account in the default bucket's name: a name of one's own avoids that.
session = sagemaker.Session(default_bucket=BUCKET)
session.default_bucket()
model_data = session.upload_data(artefact, bucket=BUCKET, key_prefix="models")
model = SKLearnModel(
    model_data=model_data,
    role=ROLE,
    framework_version="1.2-1",
    name="sdk-two",
    env={"GREETING": "ahoy"},
    sagemaker_session=session,
)
predictor = model.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    endpoint_name="sdk-two",
    tags=[{"Key": "team", "Value": "cellar"}],
)
seen["npy"] = predictor.predict(np.array(rows)).tolist()

by_csv = sagemaker.Predictor(
    "sdk-two", sagemaker_session=session, serializer=CSVSerializer(), deserializer=JSONDeserializer()
)
seen["csv"] = by_csv.predict(rows)

seen["copied"] = session.create_endpoint_config_from_existing("sdk-two", "sdk-two-copy")
described = session.sagemaker_client.describe_endpoint_config(EndpointConfigName="sdk-two-copy")
seen["copied_variants"] = described["ProductionVariants"]
seen["copied_tags"] = session.list_tags(described["EndpointConfigArn"])

predictor.update_endpoint(initial_instance_count=2, instance_type="ml.m5.large")
seen["after_update"] = predictor.predict(np.array(rows)).tolist()
variant = session.sagemaker_client.describe_endpoint(EndpointName="sdk-two")["ProductionVariants"][0]
seen["instances"] = variant["CurrentInstanceCount"]

submitted = SKLearnModel(
    model_data=model_data, role=ROLE, entry_point=code, framework_version="1.2-1", sagemaker_session=session
)
other = submitted.deploy(
    initial_instance_count=1, instance_type="ml.m5.large", endpoint_name="sdk-two-code", wait=False
)
session.sagemaker_client.get_waiter("endpoint_in_service").wait(
    EndpointName="sdk-two-code", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
)
other.serializer, other.deserializer = CSVSerializer(), JSONDeserializer()
seen["submitted"] = other.predict(rows)
other.delete_endpoint()

package = model.register(
    content_types=["text/csv"],
    response_types=["application/json"],
    inference_instances=["ml.m5.large"],
    model_package_group_name="sdk-two-packages",
    approval_status="Approved",
)
seen["package"] = package.model_package_arn
registered = package.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    endpoint_name="sdk-two-package",
    serializer=CSVSerializer(),
    deserializer=JSONDeserializer(),
)
seen["registered"] = by_csv.predict(rows) if registered is None else registered.predict(rows)
session.delete_endpoint("sdk-two-package")

predictor.delete_model()
predictor.delete_endpoint()
left = session.sagemaker_client.list_models(NameContains="sdk-two")["Models"]
seen["models_left"] = [one["ModelName"] for one in left if one["ModelName"] == "sdk-two"]
session.sagemaker_client.get_waiter("endpoint_deleted").wait(
    EndpointName="sdk-two", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
)
try:
    session.update_endpoint("sdk-two", "sdk-two-copy")
except ValueError as fault:
    seen["endpoint_gone"] = str(fault)
sys.stdout.write("\n" + json.dumps(seen) + "\n")
