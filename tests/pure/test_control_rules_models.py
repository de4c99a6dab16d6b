"""Rules for CreateModel, each by itself."""

from typing import Any

import pytest

from moorage.control.rules import models as rules

IMAGE = {"Image": "i"}


@pytest.mark.parametrize(
    ("request_", "refused"),
    [
        ({"PrimaryContainer": IMAGE}, False),
        ({"Containers": [IMAGE]}, False),
        ({}, True),
        ({"Containers": []}, True),
        ({"PrimaryContainer": IMAGE, "Containers": [IMAGE]}, True),
        ({"PrimaryContainer": IMAGE, "Containers": []}, False),
    ],
)
def test_containers_are_given_in_one_way(request_: dict[str, Any], *, refused: bool) -> None:
    assert (rules.one_way_of_containers(request_) is not None) == refused


def primary(**container: Any) -> dict[str, Any]:
    return {"PrimaryContainer": {**IMAGE, **container}}


def test_image_and_package_exclude_each_other() -> None:
    text = "Specify one of either Image and Model Data URL or ModelPackageName in container definition."
    assert rules.image_or_package(primary(ModelPackageName="p")) == text
    assert rules.image_or_package({"PrimaryContainer": {}}) is not None
    assert rules.image_or_package(primary(InferenceSpecificationName="s")) is not None
    assert rules.image_or_package(primary()) is None


def test_private_registry_needs_a_network() -> None:
    private = primary(ImageConfig={"RepositoryAccessMode": "Vpc"})
    assert rules.private_registry_has_a_network(private) is not None
    assert rules.private_registry_has_a_network({**private, "VpcConfig": {}}) is None
    credentials = primary(ImageConfig={"RepositoryAccessMode": "Platform", "RepositoryAuthConfig": {}})
    assert rules.private_registry_has_a_network(credentials) is not None


def test_environment_has_at_most_32_kilobytes_over_all_containers() -> None:
    half = {"Image": "i", "Environment": {"k": "é" * 8191}}
    assert rules.environment_is_small({"Containers": [half, half]}) is None
    assert rules.environment_is_small({"Containers": [half, half, {"Environment": {"a": "bc"}}]}) is not None


def test_pipeline_has_one_multi_model_container() -> None:
    multi = {"Image": "i", "Mode": "MultiModel"}
    text = "More than one container in MultiModel mode is not supported with inference pipeline."
    assert rules.one_multi_model_container({"Containers": [multi, multi]}) == text
    assert rules.one_multi_model_container({"Containers": [multi]}) is None


def test_names_of_containers_fit_the_mode() -> None:
    named, other, unnamed = {"ContainerHostname": "a"}, {"ContainerHostname": "b"}, {"Image": "i"}
    direct = {"InferenceExecutionConfig": {"Mode": "Direct"}}
    assert rules.hostnames_fit_the_mode({"Containers": [named, unnamed]}) is not None
    assert rules.hostnames_fit_the_mode({"Containers": [named, named]}) is not None
    assert rules.hostnames_fit_the_mode({"Containers": [unnamed, unnamed]}) is None
    assert rules.hostnames_fit_the_mode({**direct, "Containers": [unnamed, unnamed]}) is not None
    assert rules.hostnames_fit_the_mode({**direct, "Containers": [named, other]}) is None
    assert rules.hostnames_fit_the_mode({**direct, "PrimaryContainer": named}) is not None
    assert rules.hostnames_fit_the_mode({"PrimaryContainer": named}) is None


def test_containers_are_named_by_their_hostname_or_place_and_a_lone_one_is_primary() -> None:
    named = {"ContainerHostname": "a"}
    assert rules.name_of([named], 0) == "primary"
    assert [rules.name_of([named, IMAGE], at) for at in range(2)] == ["a", "container-2"]


def test_several_containers_are_built() -> None:
    request = {"Containers": [IMAGE, IMAGE], "InferenceExecutionConfig": {"Mode": "Direct"}}
    assert rules.only_what_is_built(request) is None


def test_two_sources_of_data_must_mean_the_same() -> None:
    url = "s3://b/m.tar.gz"
    same = primary(ModelDataUrl=url, ModelDataSource=rules.source_of(url))
    assert rules.one_source_of_data(same) is None
    other = primary(ModelDataUrl=url, ModelDataSource=rules.source_of("s3://b/n.tar.gz"))
    assert rules.one_source_of_data(other) is not None


def test_model_data_is_one_archive() -> None:
    assert rules.artifact_is_an_archive(primary(ModelDataUrl="s3://b/m.zip")) is not None
    assert rules.artifact_is_an_archive(primary(ModelDataUrl="s3://b/m.tar.gz")) is None
    assert rules.artifact_is_an_archive(primary(ModelDataUrl="s3://b/p/", Mode="MultiModel")) is None


def test_many_models_have_a_prefix() -> None:
    text = 'ModelDataUrl must be the common prefix of all models in MultiModel mode: "s3://b/m.tar.gz".'
    assert rules.artifact_is_an_archive(primary(ModelDataUrl="s3://b/m.tar.gz", Mode="MultiModel")) == text


def from_s3(uri: str, kind: str, compression: str) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": kind, "CompressionType": compression}}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (from_s3("s3://b/p/", "S3Prefix", "None"), None),
        (from_s3("s3://b/p", "S3Object", "Gzip"), None),
        (from_s3("s3://b/p", "S3Object", "None"), None),
        (from_s3("s3://b/p", "S3Prefix", "None"), 'S3Uri must end with "/" when S3DataType is S3Prefix: "s3://b/p".'),
        (
            from_s3("s3://b/p/", "S3Prefix", "Gzip"),
            "CompressionType must be None when S3DataType is S3Prefix.",
        ),
    ],
)
def test_sources_are_whole(source: dict[str, Any], text: str | None) -> None:
    assert rules.sources_are_whole(primary(ModelDataSource=source)) == text
    assert rules.sources_are_whole(primary(AdditionalModelDataSources=[{"ChannelName": "c", **source}])) == text


def test_source_of_data_names_one() -> None:
    text = "ModelDataSource must have exactly one data source: S3DataSource."
    assert rules.sources_are_whole(primary(ModelDataSource={})) == text


PREFIX = {"S3Uri": "s3://b/p/", "S3DataType": "S3Prefix", "CompressionType": "None"}
OBJECT = {"S3Uri": "s3://b/p", "S3DataType": "S3Object", "CompressionType": "None"}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({**PREFIX, "ManifestS3Uri": "s3://b/m", "ManifestEtag": "e"}, None),
        ({**OBJECT, "ETag": "e"}, None),
        ({**OBJECT, "ManifestS3Uri": "s3://b/m"}, "ManifestS3Uri can only be specified when S3DataType is S3Prefix."),
        ({**PREFIX, "ManifestEtag": "e"}, "ManifestEtag can only be specified with ManifestS3Uri."),
        ({**PREFIX, "ETag": "e"}, "ETag can only be specified when S3DataType is S3Object: a prefix has no ETag."),
    ],
)
def test_pins_have_something_to_pin(source: dict[str, Any], text: str | None) -> None:
    assert rules.pins_have_something_to_pin(primary(ModelDataSource={"S3DataSource": source})) == text


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ({**OBJECT, "S3Uri": "https://h/p"}, None),
        ({**PREFIX, "S3Uri": "https://b.s3.eu-west-1.amazonaws.com/p/"}, None),
        ({**PREFIX, "S3Uri": "https://h/p/"}, "S3Uri must name a bucket of S3"),
        ({**PREFIX, "ManifestS3Uri": "https://h/m.csv"}, "ManifestS3Uri must name a bucket of S3"),
        ({**OBJECT, "S3Uri": "https://user:secret@h/p"}, "S3Uri cannot be used: a URL with a user's name or password"),
    ],
)
def test_places_can_be_read(source: dict[str, Any], named: str | None) -> None:
    violation = rules.places_can_be_read(primary(ModelDataSource={"S3DataSource": source}))
    assert (violation or "").startswith(named or "")
    assert (violation is None) == (named is None)
    assert "secret" not in (violation or "")


@pytest.mark.parametrize(("accepted", "refused"), [(True, False), (False, True), (None, False)])
def test_license_that_is_expressly_not_accepted_is_none(*, accepted: bool | None, refused: bool) -> None:
    source = OBJECT if accepted is None else {**OBJECT, "ModelAccessConfig": {"AcceptEula": accepted}}
    request = primary(AdditionalModelDataSources=[{"ChannelName": "c", "S3DataSource": source}])
    assert (rules.licenses_are_accepted(request) is not None) == refused


def test_many_models_have_a_place() -> None:
    text = "ModelDataUrl is required for containers in MultiModel mode: the common prefix of all models."
    assert rules.many_models_have_a_prefix(primary(Mode="MultiModel")) == text
    assert rules.many_models_have_a_prefix(primary(Mode="MultiModel", ModelDataUrl="s3://b/p/")) is None
    assert rules.many_models_have_a_prefix(primary()) is None


def test_many_models_have_no_source_and_one_has_no_cache() -> None:
    source = primary(ModelDataSource={}, Mode="MultiModel")
    text = "ModelDataSource is not supported for containers in MultiModel mode."
    assert rules.sources_fit_the_mode(source) == text
    assert rules.sources_fit_the_mode(primary(ModelDataSource={})) is None
    text = "MultiModelConfig can only be specified for containers in MultiModel mode."
    assert rules.sources_fit_the_mode(primary(MultiModelConfig={})) == text
    assert rules.sources_fit_the_mode(primary(MultiModelConfig={}, Mode="MultiModel")) is None


def test_channels_differ() -> None:
    sources = [{"ChannelName": "a"}, {"ChannelName": "a"}]
    text = "ChannelName must be unique within AdditionalModelDataSources: a."
    assert rules.channels_differ(primary(AdditionalModelDataSources=sources)) == text
    assert rules.channels_differ(primary(AdditionalModelDataSources=sources[:1])) is None


@pytest.mark.parametrize("name", [".", ".."])
def test_channel_is_the_name_of_a_folder(name: str) -> None:
    text = f'ChannelName must be fit for the name of a folder: "{name}" is not.'
    assert rules.channels_differ(primary(AdditionalModelDataSources=[{"ChannelName": name}])) == text


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (
            primary(ModelDataSource={"S3DataSource": {"HubAccessConfig": {"HubContentArn": "arn"}}}),
            "PrimaryContainer.ModelDataSource.S3DataSource.HubAccessConfig",
        ),
        (
            primary(ImageConfig={"RepositoryAccessMode": "Vpc", "RepositoryAuthConfig": {}}),
            "PrimaryContainer.ImageConfig.RepositoryAuthConfig",
        ),
    ],
)
def test_what_is_not_built_is_refused_by_name(request_: dict[str, Any], named: str) -> None:
    violation = rules.only_what_is_built(request_)
    assert violation is not None
    assert violation.startswith(f"{named} is not supported by Moorage yet")


def test_defaults_may_be_asked_for() -> None:
    request = primary(Mode="SingleModel", ImageConfig={"RepositoryAccessMode": "Platform"})
    assert rules.only_what_is_built(request) is None


def test_every_form_of_data_and_the_network_of_an_image_are_built() -> None:
    source = {**PREFIX, "ManifestS3Uri": "s3://b/m", "ManifestEtag": "e", "ModelAccessConfig": {"AcceptEula": True}}
    request = primary(
        ModelDataSource={"S3DataSource": source},
        AdditionalModelDataSources=[{"ChannelName": "c", "S3DataSource": {**OBJECT, "ETag": "e"}}],
        ImageConfig={"RepositoryAccessMode": "Vpc"},
    )
    network = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert rules.only_what_is_built({**request, "VpcConfig": network}) is None


def test_models_may_be_isolated() -> None:
    assert rules.only_what_is_built({**primary(), "EnableNetworkIsolation": True}) is None


def test_a_prefix_of_many_models_need_not_end_like_one_and_nobody_else_has_a_compressed_prefix() -> None:
    request = primary(ModelDataUrl="s3://b/p", Mode="MultiModel")
    assert [rule(request) for rule in rules.RULES if rule(request) is not None] == []
    expected = {"S3Uri": "s3://b/p", "S3DataType": "S3Prefix", "CompressionType": "Gzip"}
    assert rules.data_of(request["PrimaryContainer"]) == expected
    compressed = primary(ModelDataSource={"S3DataSource": {**expected, "S3Uri": "s3://b/p/"}})
    assert rules.sources_are_whole(compressed) == "CompressionType must be None when S3DataType is S3Prefix."
