"""A model that makes its answer piece by piece, streamed by boto3 while it is made."""

import contextlib
import json
import time

import pytest
from botocore.exceptions import EventStreamError
from tests.support import models
from tests.support.fixtures import Deployment

PIECES = ["Fair", " winds", " and", " following", " seas"]

TALKER = """
    import json
    import time

    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        request = json.loads(data)
        return talk(request), accept

    def talk(request):
        for piece in request["pieces"]:
            if piece is None:
                raise ValueError("on purpose")
            yield piece
            time.sleep(request["pause"])
"""


@pytest.fixture(scope="module")
def talker(deployment: Deployment) -> str:
    model = deployment.model("talker", models.code_only(TALKER))
    return deployment.in_service("talker", ("only", model, 1, 1))


def wish(*pieces: str | None, pause: float = 0.0) -> str:
    return json.dumps({"pieces": pieces, "pause": pause})


def test_boto3_has_the_first_piece_before_the_last_is_made(deployment: Deployment, talker: str) -> None:
    answer = deployment.runtime.invoke_endpoint_with_response_stream(
        EndpointName=talker, ContentType="application/json", Accept="text/plain", Body=wish(*PIECES, pause=0.4)
    )
    with contextlib.closing(answer["Body"]) as body:
        seen = [(part["PayloadPart"]["Bytes"].decode(), time.monotonic()) for part in body]

    assert [piece for piece, _ in seen] == PIECES
    assert seen[-1][1] - seen[0][1] > 1.0
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain; charset=utf-8", "only")


def test_model_that_fails_in_mid_answer_is_an_event_stream_error(deployment: Deployment, talker: str) -> None:
    answer = deployment.runtime.invoke_endpoint_with_response_stream(
        EndpointName=talker, ContentType="application/json", Body=wish("Fair", None)
    )
    with contextlib.closing(answer["Body"]) as body:
        events = iter(body)
        first = next(events)
        with pytest.raises(EventStreamError, match=r"\(ModelStreamError\).*The connection to the model .* was broken"):
            next(events)

    assert first == {"PayloadPart": {"Bytes": b"Fair"}}


def test_model_that_fails_before_its_first_piece_is_a_model_error(deployment: Deployment, talker: str) -> None:
    with pytest.raises(deployment.runtime.exceptions.ModelError) as caught:
        deployment.runtime.invoke_endpoint_with_response_stream(
            EndpointName=talker, ContentType="application/json", Body=wish(None)
        )
    assert caught.value.response["OriginalStatusCode"] == 500
    assert "ValueError: on purpose" in caught.value.response["OriginalMessage"]


def test_plain_invocation_has_all_pieces_as_one_body(deployment: Deployment, talker: str) -> None:
    answer = deployment.runtime.invoke_endpoint(EndpointName=talker, ContentType="application/json", Body=wish(*PIECES))
    assert answer["Body"].read().decode() == "".join(PIECES)


def test_closed_stream_frees_the_model_for_others(deployment: Deployment, talker: str) -> None:
    answer = deployment.runtime.invoke_endpoint_with_response_stream(
        EndpointName=talker, ContentType="application/json", Body=wish(*["word "] * 1200, pause=0.05)
    )
    next(iter(answer["Body"]))
    answer["Body"].close()
    began = time.monotonic()
    other = deployment.runtime.invoke_endpoint(EndpointName=talker, ContentType="application/json", Body=wish("free"))

    assert other["Body"].read() == b"free"
    assert time.monotonic() - began < 30  # the abandoned answer would have taken a minute
