"""The ``openai`` Python package, unmodified, with a token as the SageMaker SDK makes it."""

import time
from collections.abc import Iterator

import openai
import pytest
from tests.support import models
from tests.support.bearer import make_token
from tests.support.fixtures import Deployment

from moorage.aws.credentials import Credential

WORDS = ["Fair", " winds", " and", " following", " seas"]

CHATTER = """
    import json
    import time

    WORDS = ["Fair", " winds", " and", " following", " seas"]

    def model_fn(model_dir):
        return None

    def transform_fn(model, data, content_type, accept):
        request = json.loads(data)
        said = request["messages"][-1]["content"]
        if said == "fail":
            raise ValueError("on purpose")
        if request.get("stream"):
            return events(said), "text/event-stream"
        message = {"role": "assistant", "content": "".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({**ABOUT, "object": "chat.completion", "choices": [choice]}), "application/json"

    ABOUT = {"id": "chatcmpl-1", "created": 1, "model": "chatter"}

    def events(said):
        for number, word in enumerate(WORDS):
            if said == "break" and number == 2:
                raise ValueError("on purpose")
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = {**ABOUT, "object": "chat.completion.chunk", "choices": [choice]}
            yield f"data: {json.dumps(chunk)}\\n\\n"
            time.sleep(0.3)
        yield "data: [DONE]\\n\\n"
"""

pytestmark = pytest.mark.client("openai Python package")


@pytest.fixture(scope="module")
def chatter(deployment: Deployment) -> str:
    model = deployment.model("chatter", models.code_only(CHATTER))
    return deployment.in_service("chatter", ("only", model, 1, 1))


@pytest.fixture(scope="module")
def client(deployment: Deployment, chatter: str) -> Iterator[openai.OpenAI]:
    exports = deployment.moorage.exports()
    key = Credential(exports["AWS_ACCESS_KEY_ID"], exports["AWS_SECRET_ACCESS_KEY"], "", "")
    url = f"{exports['AWS_ENDPOINT_URL']}/endpoints/{chatter}/openai/v1"
    with openai.OpenAI(base_url=url, api_key=make_token(key, region=exports["AWS_DEFAULT_REGION"])) as made:
        yield made


def test_completion_is_that_of_the_model(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="", messages=[{"role": "user", "content": "hello"}])
    assert completion.choices[0].message.content == "".join(WORDS)
    assert completion.model == "chatter"


def test_streamed_completion_comes_while_it_is_made(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="", messages=[{"role": "user", "content": "hello"}], stream=True)
    seen = [(chunk.choices[0].delta.content, time.monotonic()) for chunk in stream]
    assert [word for word, _ in seen] == WORDS
    assert seen[-1][1] - seen[0][1] > 0.8


def test_stream_that_breaks_raises_what_happened(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="", messages=[{"role": "user", "content": "break"}], stream=True)
    words = [next(stream).choices[0].delta.content for _ in range(2)]
    with pytest.raises(openai.APIError, match="The connection to the model primary was broken") as caught:
        next(stream)
    assert (words, caught.value.code) == (WORDS[:2], "StreamBroken")


def test_model_s_own_error_has_its_status_and_text(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="", messages=[{"role": "user", "content": "fail"}])
    told = caught.value.response.json()
    assert (caught.value.status_code, told["OriginalStatusCode"]) == (424, 500)
    assert told["OriginalMessage"] == "ValueError: on purpose"


def test_wrong_key_is_an_authentication_error(client: openai.OpenAI) -> None:
    stranger = client.with_options(api_key="sk-proj-1234")
    with pytest.raises(openai.AuthenticationError, match="does not begin with sagemaker-api-key-") as caught:
        stranger.chat.completions.create(model="", messages=[{"role": "user", "content": "hello"}])
    assert caught.value.code == "invalid_api_key"


def test_what_is_not_routed_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="POST /openai/v1/chat/completions"):
        client.embeddings.create(model="", input="hello")
