"""One whole life of an endpoint, as the client programs in ``tests/clients/LANGUAGE`` live it and tell of it.

Each program reads ``LIFE_NAME``, ``LIFE_IMAGE``, ``LIFE_ROLE``, ``LIFE_MODEL_DATA`` and ``LIFE_ROWS`` beside the usual
AWS variables, and prints one JSON object a step. The programs judge nothing: what must come of each step stands here.
"""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.fixtures import Deployment, Wine
from tests.support.lossy import Lossy, lossy
from tests.support.product import IMAGE, ROLE
from tests.support.toolchains import Toolchain

Step = dict[str, Any]

GROUPS = {
    "async": "AsyncInferenceConfig",
    "explainer": "ExplainerConfig",
    "role": "ExecutionRoleArn",
    "vpc": "VpcConfig",
    "metrics": "MetricsConfig",
    "serverless": "ProductionVariants.1.ServerlessConfig",
}
"""Groups of members that Moorage does not build yet, with the member that its refusal names."""

UNKNOWN_KEY = (
    "KmsKeyId: The KMS key 1234abcd-12ab-34cd-56ef-1234567890ab cannot be used: "
    "There is no key 1234abcd-12ab-34cd-56ef-1234567890ab."
)
"""What is said of the key that the programs name, which nobody has made."""

_VARIANT = {"ModelName": "NAME", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}


def _big(**members: Any) -> tuple[str, list[dict[str, Any]]]:
    """Expect the only variant of a group, with what the group is about."""
    return ("ProductionVariants", [{**_VARIANT, "VariantName": "big", "InitialVariantWeight": 1.0, **members}])


BUILT: dict[str, tuple[str, Any]] = {
    "data-capture": (
        "DataCaptureConfig",
        {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": "s3://BUCKET/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]},
        },
    ),
    "shadow": ("ShadowProductionVariants", [{**_VARIANT, "VariantName": "shadow", "InitialVariantWeight": 0.5}]),
    "routing": _big(RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}),
    "isolation": ("EnableNetworkIsolation", True),
    "core-dump": _big(CoreDumpConfig={"DestinationS3Uri": "s3://BUCKET/cores"}),
    "volume": _big(VolumeSizeInGB=16),
    "download-timeout": _big(ModelDataDownloadTimeoutInSeconds=600),
    "startup-timeout": _big(ContainerStartupHealthCheckTimeoutInSeconds=600),
    "shell-access": _big(EnableSSMAccess=True),
}
"""Groups of members that Moorage has, with the member that is kept and what each program meant by it."""


@dataclass(frozen=True)
class Life:
    """What a program told of its life."""

    name: str
    arns: str
    """What precedes the kind in the ARN of each resource."""
    model_data: str
    answers: list[int]
    """What the model says of the rows."""
    steps: list[Step]
    kept: dict[str, Any]
    """By group that Moorage has, what the configuration made of it is described with."""
    lost: list[dict[str, str]]
    """The headers of each try of the request whose first answers were lost."""

    def all(self, step: str) -> list[Step]:
        """Give the lines of one step, without its name."""
        return [
            {key: value for key, value in line.items() if key != "step"} for line in self.steps if line["step"] == step
        ]

    def one(self, step: str) -> Step:
        """Give the only line of a step."""
        (line,) = self.all(step)
        return line


def live(toolchain: Toolchain, deployment: Deployment, wine: Wine) -> Life:
    """Build the program, put its model where it finds it, run it."""
    toolchain.require()
    toolchain.ensure_built()
    name = f"{toolchain.language}-life"  # none is part of another: they look for their own by a part of the name
    bucket = f"{name}-models"
    deployment.s3.create_bucket(Bucket=bucket)
    deployment.s3.put_object(Bucket=bucket, Key="a/model.tar.gz", Body=wine.artefact("logistic"))
    exports = deployment.moorage.exports()
    model_data = f"s3://{bucket}/a/model.tar.gz"
    with lossy(exports["AWS_ENDPOINT_URL"], f'"{name}-lost"'.encode()) as relay:
        environment = {
            **exports,
            "AWS_ENDPOINT_URL": relay.url,
            "LIFE_NAME": name,
            "LIFE_IMAGE": IMAGE,
            "LIFE_ROLE": ROLE,
            "LIFE_MODEL_DATA": model_data,
            "LIFE_ROWS": wine.csv(0, 1, 2),
        }
        printed = toolchain.start(environment)
    return Life(
        name=name,
        arns=f"arn:aws:sagemaker:{exports['AWS_DEFAULT_REGION']}:000000000000:",
        model_data=model_data,
        answers=wine.answers["logistic"][:3],
        steps=[json.loads(line) for line in printed.splitlines()],
        kept={group: _kept(deployment, name, group) for group in BUILT},
        lost=_tries(relay),
    )


def _kept(deployment: Deployment, name: str, group: str) -> Any:
    """Describe a group's configuration, with the words in place of names that differ from program to program."""
    described = deployment.sagemaker.describe_endpoint_config(EndpointConfigName=f"{name}-{group}")
    for variant in (*described["ProductionVariants"], *described.get("ShadowProductionVariants", ())):
        variant["ModelName"] = variant["ModelName"].replace(name, "NAME")
        _hide_bucket(variant.get("CoreDumpConfig"))
    _hide_bucket(described.get("DataCaptureConfig"))
    return described[BUILT[group][0]]


def _hide_bucket(config: dict[str, Any] | None) -> None:
    if config is not None:
        _, _, path = config["DestinationS3Uri"].removeprefix("s3://").partition("/")
        config["DestinationS3Uri"] = f"s3://BUCKET/{path}"


def _tries(relay: Lossy) -> list[dict[str, str]]:
    """Leave out the later requests that name the configuration too."""
    target = "SageMaker.CreateEndpointConfig"
    return [headers for headers in relay.seen if headers.get("x-amz-target") == target]


def check(life: Life) -> None:
    """Hold each step against what AWS would have answered."""
    _check_model(life)
    _check_configs(life)
    _check_groups(life)
    _check_endpoint(life)
    _check_errors(life)
    _check_retries(life)
    _check_change(life)
    _check_end(life)


def check_stream(life: Life) -> None:
    """Hold a response stream against the plain answer; not every program asks for one."""
    streamed = life.one("stream")
    assert (streamed["variant"], streamed["type"]) == ("small", "application/json")
    assert json.loads(streamed["body"]) == life.answers


def _check_model(life: Life) -> None:
    arn = f"{life.arns}model/{life.name}"
    described = life.one("describe-model")
    assert life.one("create-model") == {"arn": arn}
    assert _is_recent(described.pop("created"))
    assert described == {
        "name": life.name,
        "arn": arn,
        "role": ROLE,
        "image": IMAGE,
        "url": life.model_data,
        "environment": {"GREETING": "ahoy"},
    }


def _is_recent(seconds: float) -> bool:
    """Say whether it is a moment of this century in seconds, not in milliseconds."""
    return 1_600_000_000 < seconds < 4_000_000_000


def _check_configs(life: Life) -> None:
    names = [life.name, f"{life.name}-2", f"{life.name}-3"]
    described = life.one("describe-config")
    assert [line["arn"] for line in life.all("create-config")] == [f"{life.arns}endpoint-config/{n}" for n in names]
    assert life.one("list-configs") == {"pages": [names[:2], names[2:]]}
    assert life.one("add-tags") == {"tags": {"team": "cellar", "year": "1987"}}
    assert life.one("delete-tags") == {"tags": {"year": "1987"}}
    assert _is_recent(described.pop("created"))
    assert described == {
        "name": life.name,
        "arn": f"{life.arns}endpoint-config/{life.name}",
        "variants": [
            {"name": name, "model": life.name, "count": 1, "type": "ml.m5.large", "weight": weight}
            for name, weight in (("big", 2), ("small", 0.5))
        ],
    }


def _check_groups(life: Life) -> None:
    told = {line.pop("group"): line for line in life.all("group")}
    assert [told.pop(group)["code"] for group in BUILT] == [None] * len(BUILT)
    assert life.kept == {group: value for group, (_, value) in BUILT.items()}
    texts = {group: f"{member} is not supported by Moorage yet." for group, member in GROUPS.items()}
    assert told == {
        group: {"code": "ValidationException", "message": text, "status": 400}
        for group, text in {**texts, "kms-key": UNKNOWN_KEY}.items()
    }


def _check_endpoint(life: Life) -> None:
    described = life.one("describe-endpoint")
    assert life.one("create-endpoint") == {"arn": f"{life.arns}endpoint/{life.name}"}
    assert life.one("describe-new")["status"] in ("Creating", "InService")
    assert life.one("wait-in-service") == {"state": "SUCCESS"}
    assert life.one("list-endpoints") == {"names": [f"{life.name} InService"]}
    assert (described["status"], described["config"]) == ("InService", life.name)
    assert _is_recent(described["created"])
    assert described["modified"] >= described["created"]
    assert _capacities(described) == [("big", [2, 2], [1, 1]), ("small", [0.5, 0.5], [1, 1])]
    assert all(variant["image"] == IMAGE and "@sha256:" in variant["resolved"] for variant in described["variants"])
    invoked = life.one("invoke")
    assert (invoked["variant"], invoked["type"]) == ("small", "application/json")
    assert json.loads(invoked["body"]) == life.answers


def _capacities(described: Step) -> list[tuple[str, list[float], list[int]]]:
    return [(variant["name"], variant["weights"], variant["counts"]) for variant in described["variants"]]


def _check_errors(life: Life) -> None:
    told = {line["case"]: line for line in life.all("error")}
    texts = {
        "missing-model": f'Could not find model "{life.arns}model/{life.name}-missing".',
        "existing-model": f'Cannot create already existing model "{life.arns}model/{life.name}".',
        "existing-config": (
            f'Cannot create already existing endpoint configuration "{life.arns}endpoint-config/{life.name}".'
        ),
    }
    assert {case: (told[case]["code"], told[case]["status"]) for case in told} == {
        **dict.fromkeys((*texts, "constraints"), ("ValidationException", 400)),
        "missing-endpoint": ("ValidationError", 400),
    }
    assert {case: told[case]["message"] for case in texts} == texts
    assert told["constraints"]["message"].startswith("3 validation errors detected: Value 'bad_name' at")
    assert f"{life.name}-missing" in told["missing-endpoint"]["message"]
    failed = life.one("model-error")
    assert (failed["code"], failed["status"], failed["original"]) == ("ModelError", 424, 500)
    assert "application/x-nonsense" in failed["text"]
    assert f"/{life.name}" in failed["log"]


def _check_retries(life: Life) -> None:
    """The same request, done once and sent again, is told that its resource exists: there is never a second."""
    arn = f"{life.arns}endpoint-config/{life.name}-lost"
    lost = life.one("lost")
    assert {key: lost[key] for key in ("code", "message", "status")} == {
        "code": "ValidationException",
        "message": f'Cannot create already existing endpoint configuration "{arn}".',
        "status": 400,
    }
    assert life.one("kept") == {"arn": arn}
    assert len(life.lost) == 3
    assert len({headers["amz-sdk-invocation-id"] for headers in life.lost}) == 1


def _check_change(life: Life) -> None:
    assert life.one("update-weights") == {"arn": f"{life.arns}endpoint/{life.name}"}
    assert _capacities(life.one("describe-changed")) == [("big", [1, 1], [2, 2]), ("small", [3.5, 3.5], [1, 1])]
    updated = life.one("describe-updated")
    assert life.one("update-endpoint") == {"arn": f"{life.arns}endpoint/{life.name}"}
    assert (updated["status"], updated["config"]) == ("InService", f"{life.name}-2")
    assert _capacities(updated) == [("big", [2, 2], [1, 1]), ("small", [0.5, 0.5], [1, 1])]


def _check_end(life: Life) -> None:
    assert life.one("wait-deleted") == {"state": "SUCCESS"}
    told = {line["kind"]: (line["code"], line["message"]) for line in life.all("gone")}
    missing = {"endpoint": "endpoint", "config": "endpoint configuration", "model": "model"}
    kinds = {"endpoint": "endpoint", "config": "endpoint-config", "model": "model"}
    assert told == {
        kind: ("ValidationException", f'Could not find {missing[kind]} "{life.arns}{kinds[kind]}/{life.name}".')
        for kind in missing
    }
