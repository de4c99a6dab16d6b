"""Where URIs of objects lead."""

import pytest

from moorage.objects.faults import UnusableUri
from moorage.objects.places import S3Place, WebPlace, parse_place


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://b/k/l", "b", "k/l"),
        ("s3://b", "b", ""),
        ("https://s3.amazonaws.com/b/k", "b", "k"),
        ("https://s3.eu-west-1.amazonaws.com/b/k/l%20m", "b", "k/l m"),
        ("https://s3-us-west-2.amazonaws.com/b/k", "b", "k"),
        ("https://s3.dualstack.us-gov-west-1.amazonaws.com/b/", "b", ""),
        ("https://s3.cn-north-1.amazonaws.com.cn/b/k", "b", "k"),
        ("https://b.s3.amazonaws.com/k", "b", "k"),
        ("https://my.b.s3.eusc-de-east-1.amazonaws.com/k/", "my.b", "k/"),
        ("https://b.s3-fips.us-east-1.amazonaws.com/k", "b", "k"),
        ("https://B.S3.AMAZONAWS.COM/K", "b", "K"),
    ],
)
def test_names_of_s3_lead_to_the_bucket(uri: str, bucket: str, key: str) -> None:
    place = parse_place(uri)
    assert place == S3Place(bucket, key)
    assert place.uri == f"s3://{bucket}/{key}"


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("https://example.com/models/m%20n.tar.gz", "models/m n.tar.gz"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=x", "k"),
        ("https://s3.amazonaws.com:8443/b/k", "b/k"),
        ("https://b.s3-website-us-east-1.amazonaws.com/k", "k"),
        ("https://s3.amazonaws.com.evil.org/b/k", "b/k"),
        ("https://s3x.amazonaws.com/b/k", "b/k"),
    ],
)
def test_everything_else_is_a_web_servers(uri: str, key: str) -> None:
    assert parse_place(uri) == WebPlace(uri)
    assert parse_place(uri).key == key


def test_fragment_names_nothing() -> None:
    assert parse_place("https://h/p#f") == WebPlace("https://h/p")


@pytest.mark.parametrize(
    "uri",
    [
        *("", "k", "s3:/b/k", "s3:///k", "http://h/p", "file:///etc/passwd", "https://", "https:///p", "https://h:x/p"),
        *("https://[::1/p", "https://user@h/p", "https://u:secret@h/p", "https://h/a b", "https://h/\u00e9"),
        *("https://h/a\r\nHost: x", "https://s3.amazonaws.com/"),
    ],
)
def test_what_is_no_place_is_refused_and_no_password_told(uri: str) -> None:
    with pytest.raises(UnusableUri) as refused:
        parse_place(uri)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
