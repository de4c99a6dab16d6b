import pytest

from moorage.gateway.owners import Owner, owner_of, signed_service, unknown_service
from moorage.gateway.requests import RequestHead, make_head


def head(target: str, **headers: str) -> RequestHead:
    fields = [(b"Host", b"h"), *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())]
    return make_head(b"POST", target.encode(), fields, "1.1", keep_alive=True)


def signed(service: str) -> str:
    return (
        f"AWS4-HMAC-SHA256 Credential=AK/IA/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )


def presigned(service: str) -> str:
    return f"X-Amz-Algorithm=x&X-Amz-Credential=AKIA%2F20260101%2Fus-east-1%2F{service}%2Faws4_request"


@pytest.mark.parametrize(
    ("request_head", "owner"),
    [
        (head("/endpoints/e/invocations"), Owner.GATEWAY),
        (head("/endpoints/e/invocations", authorization=signed("sagemaker")), Owner.GATEWAY),
        (head("/endpoints/e/invocations", authorization=signed("sns")), Owner.GATEWAY),
        (head("/endpoints/key", authorization=signed("s3")), Owner.NEIGHBOURS),
        (head("/endpoints", authorization=signed("s3")), Owner.NEIGHBOURS),
        (head("/_moorage/health"), Owner.CONTROL),
        (head("/", authorization=signed("sagemaker")), Owner.CONTROL),
        (head("/", x_amz_target="SageMaker.ListModels"), Owner.CONTROL),
        (head("/b/k"), Owner.NEIGHBOURS),
        (head("/b/k?" + presigned("s3")), Owner.NEIGHBOURS),
        (head("/?" + presigned("sts")), Owner.NEIGHBOURS),
        (head("/", authorization=signed("sts")), Owner.NEIGHBOURS),
        (head("/", authorization=signed("logs")), Owner.NEIGHBOURS),
        (head("/?" + presigned("sns")), Owner.NOBODY),
        (head("/", authorization=signed("monitoring")), Owner.NOBODY),
        (head("/", authorization="Basic abc"), Owner.NEIGHBOURS),
        (head("/b?X-Amz-Credential=a"), Owner.NEIGHBOURS),
    ],
)
def test_owner(request_head: RequestHead, owner: Owner) -> None:
    assert owner_of(request_head) is owner


def test_error_names_the_service_and_those_that_are_there() -> None:
    fault = unknown_service(head("/", authorization=signed("sns")))
    assert signed_service(head("/", authorization=signed("sns"))) == "sns"
    assert fault.message == "Moorage does not have the service 'sns'. It has: kms, logs, s3, sagemaker, sqs, sts."
