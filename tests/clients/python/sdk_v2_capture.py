"""Data capture by the SageMaker Python SDK 2, as AWS's notebooks do it: deploy, predict, read the files.

Arguments: the artefact of a model, a file with rows as JSON. The last line printed is what was seen, as JSON.
"""

import json
import sys
import time
from pathlib import Path

import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.model_monitor import DataCaptureConfig
from sagemaker.s3 import S3Downloader
from sagemaker.serializers import CSVSerializer
from sagemaker.sklearn.model import SKLearnModel

ROLE = "arn:aws:iam::000000000000:role/moorage"
BUCKET = "sdk-two-capture"
NAME = "sdk-two-capture"
DELIVERED_SECONDS = 60

artefact, rows_file = sys.argv[1:]
with Path(rows_file).open() as file:
    rows = json.load(file)
seen = {}

session = sagemaker.Session(default_bucket=BUCKET)
session.default_bucket()
capture = DataCaptureConfig(enable_capture=True, sampling_percentage=100, sagemaker_session=session)
seen["destination"] = capture.destination_s3_uri
model = SKLearnModel(
    model_data=session.upload_data(artefact, bucket=BUCKET, key_prefix="models"),
    role=ROLE,
    framework_version="1.2-1",
    name=NAME,
    sagemaker_session=session,
)
model.deploy(
    initial_instance_count=1,
    instance_type="ml.m5.large",
    endpoint_name=NAME,
    data_capture_config=capture,
    wait=False,
)
client = session.sagemaker_client
client.get_waiter("endpoint_in_service").wait(EndpointName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
seen["described"] = client.describe_endpoint(EndpointName=NAME)["DataCaptureConfig"]

predictor = sagemaker.Predictor(
    NAME, sagemaker_session=session, serializer=CSVSerializer(), deserializer=JSONDeserializer()
)
seen["answers"] = [predictor.predict(rows, inference_id=f"id-{count}") for count in range(3)]
predictor.delete_endpoint()

deadline = time.monotonic() + DELIVERED_SECONDS
while not (files := S3Downloader.list(f"{capture.destination_s3_uri}/{NAME}", session)) and time.monotonic() < deadline:
    time.sleep(0.2)
seen["files"] = files
seen["records"] = [json.loads(line) for uri in files for line in S3Downloader.read_file(uri, session).splitlines()]
model.delete_model()
sys.stdout.write("\n" + json.dumps(seen) + "\n")
