"""A multi-model endpoint by the SageMaker Python SDK 2: MultiDataModel, add_model, list_models, predict by target.

Arguments: the artefacts of two models, a file with rows as JSON. The last line printed is what was seen, as JSON.
"""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.serializers import CSVSerializer
from sagemaker.sklearn.model import SKLearnModel

ROLE = "arn:aws:iam::000000000000:role/moorage"
BUCKET = "sdk-two-multi"
NAME = "sdk-two-multi"

first, second, rows_file = sys.argv[1:]
with Path(rows_file).open() as file:
    rows = json.load(file)
seen = {}

session = sagemaker.Session(default_bucket=BUCKET)
session.default_bucket()
image = SKLearnModel(
    model_data=None, role=ROLE, entry_point=None, framework_version="1.2-1", sagemaker_session=session
).serving_image_uri(session.boto_region_name, "ml.m5.large")
many = MultiDataModel(
    name=NAME, model_data_prefix=f"s3://{BUCKET}/fleet/", image_uri=image, role=ROLE, sagemaker_session=session
)
many.deploy(initial_instance_count=1, instance_type="ml.m5.large", endpoint_name=NAME, wait=False)
client = session.sagemaker_client
client.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
predictor = sagemaker.Predictor(
    NAME, sagemaker_session=session, serializer=CSVSerializer(), deserializer=JSONDeserializer()
)
many.add_model(first, "first.tar.gz")
seen["first"] = predictor.predict(rows, target_model="first.tar.gz")
many.add_model(second, "team/second.tar.gz")
seen["second"] = predictor.predict(rows, target_model="team/second.tar.gz")
seen["listed"] = sorted(many.list_models())
seen["mode"] = client.describe_model(ModelName=NAME)["PrimaryContainer"]["Mode"]
predictor.delete_endpoint()
many.delete_model()
sys.stdout.write("\n" + json.dumps(seen) + "\n")
