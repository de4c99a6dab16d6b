"""Who may read the page for Prometheus."""

import pytest

from moorage.aws.errors import ClientFault
from moorage.aws.sigv4 import HttpRequest
from moorage.control.scrapers import Admission, admit

LOCAL = {"x-moorage-source-ip": "127.0.0.1", "host": "localhost:8410"}


def asked(query: str = "", **headers: str) -> HttpRequest:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest("GET", "/_moorage/metrics", query, tuple(given.items()))


def local(**changes: str) -> HttpRequest:
    return asked(**{**{name.replace("-", "_"): value for name, value in LOCAL.items()}, **changes})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost", "localhost:8410", "127.0.0.1:8410", "[::1]:8410", "10.0.0.5"])
def test_connection_from_this_machine_needs_nothing(address: str, host: str) -> None:
    assert admit(local(x_moorage_source_ip=address, host=host), "") is Admission.OPEN


@pytest.mark.parametrize("address", ["10.0.0.7", "::2", "::ffff:10.0.0.7", "", "localhost"])
def test_connection_from_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(ClientFault, match="Authorization: Bearer"):
        admit(local(x_moorage_source_ip=address), "")


def test_request_that_did_not_come_through_the_gateway_is_refused() -> None:
    with pytest.raises(ClientFault):
        admit(asked(host="localhost"), "")


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "via", "x_real_ip", "x_forwarded_host"])
def test_what_a_proxy_on_this_machine_passes_on_is_not_local(header: str) -> None:
    with pytest.raises(ClientFault):
        admit(local(**{header: "10.0.0.7"}), "")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8410", "127.0.0.1.nip.io", ""])
def test_web_page_that_has_its_own_name_point_here_learns_nothing(host: str) -> None:
    with pytest.raises(ClientFault):
        admit(local(host=host), "")


def test_token_opens_from_anywhere_and_then_nothing_else_does() -> None:
    far = {"x_moorage_source_ip": "10.0.0.7", "host": "moorage.example"}
    assert admit(asked(**far, authorization="Bearer s3cret"), "s3cret") is Admission.OPEN
    assert admit(asked(**far, authorization="bearer  s3cret"), "s3cret") is Admission.OPEN
    with pytest.raises(ClientFault):
        admit(local(), "s3cret")


@pytest.mark.parametrize(("given", "token"), [("wrong", "s3cret"), ("", "s3cret"), ("", ""), ("x", "")])
def test_wrong_token_is_refused_also_from_this_machine(given: str, token: str) -> None:
    with pytest.raises(ClientFault, match="The bearer token is not"):
        admit(local(authorization=f"Bearer {given}"), token)


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_signature_is_always_looked_at(token: str) -> None:
    signed = local(authorization="AWS4-HMAC-SHA256 Credential=...")
    assert admit(signed, token) is Admission.SIGNED
    assert admit(HttpRequest("GET", "/", "X-Amz-Signature=1", tuple(LOCAL.items())), token) is Admission.SIGNED
