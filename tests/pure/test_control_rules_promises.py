"""Refusals of what no engine of the machine keeps."""

from typing import Any

import pytest
from tests.support.configs import of, variant

from moorage.control.rules import promises

WHY = "it needs root; run Moorage as root."


def violation(request: dict[str, Any], *refused: str, model: dict[str, Any] | None = None) -> str | None:
    (rule,) = promises.rules_for(dict.fromkeys(refused, WHY), {"m": model or {}})
    return rule(request)


@pytest.mark.parametrize(
    ("request_", "member", "path"),
    [
        (of(KmsKeyId="k"), "KmsKeyId", "KmsKeyId"),
        (of(EnableNetworkIsolation=True), "EnableNetworkIsolation", "EnableNetworkIsolation"),
        (of(variant("a"), variant("b", VolumeSizeInGB=1)), "VolumeSizeInGB", "ProductionVariants.2.VolumeSizeInGB"),
        (
            of(ShadowProductionVariants=[variant("s", EnableSSMAccess=True)]),
            "EnableSSMAccess",
            "ShadowProductionVariants.1.EnableSSMAccess",
        ),
        (
            of(variant(CoreDumpConfig={"DestinationS3Uri": "s3://c", "KmsKeyId": "k"})),
            "CoreDumpConfig.KmsKeyId",
            "ProductionVariants.1.CoreDumpConfig.KmsKeyId",
        ),
    ],
)
def test_what_asks_for_it_is_named_with_the_reason(request_: dict[str, Any], member: str, path: str) -> None:
    assert violation(request_, member) == f"{path} cannot be kept on this machine: {WHY}"
    assert violation(request_, "Other") is None


def test_models_ask_too() -> None:
    text = f"model m: EnableNetworkIsolation cannot be kept on this machine: {WHY}"
    assert violation(of(), "EnableNetworkIsolation", model={"EnableNetworkIsolation": True}) == text


def test_false_asks_for_nothing() -> None:
    request = of(variant(EnableSSMAccess=False), EnableNetworkIsolation=False)
    assert violation(request, "EnableSSMAccess", "EnableNetworkIsolation") is None
    core_dumps = of(variant(CoreDumpConfig={"DestinationS3Uri": "s3://c"}))
    assert violation(core_dumps, "CoreDumpConfig.KmsKeyId") is None


def test_containers_of_models_ask_too() -> None:
    text = f"model m: AdditionalModelDataSources cannot be kept on this machine: {WHY}"
    sources = [{"ChannelName": "c"}]
    for model in (
        {"PrimaryContainer": {"AdditionalModelDataSources": sources}},
        {"Containers": [{}, {"AdditionalModelDataSources": sources}]},
    ):
        assert violation(of(), "AdditionalModelDataSources", model=model) == text
