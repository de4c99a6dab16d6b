"""The cipher against a known answer, and every change of what is authenticated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.kms import cipher
from moorage.kms.faults import InvalidCiphertext
from moorage.kms.records import Home, KeyName, read_name

# Test case 16 of "The Galois/Counter Mode of Operation (GCM)" by McGrew and Viega: AES-256 with associated data.
KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
NONCE = bytes.fromhex("cafebabefacedbaddecaf888")
CONTENT = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
CONTEXT = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
SEALED = bytes.fromhex(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    "76fc6ece0f4e1768cddf8853bb2d551b"
)


def test_the_known_answer_of_aes_256_gcm() -> None:
    assert cipher.seal(KEY, NONCE, CONTENT, CONTEXT) == SEALED
    assert cipher.unseal(KEY, NONCE, SEALED, CONTEXT) == CONTENT


@pytest.mark.parametrize("at", [0, len(SEALED) // 2, len(SEALED) - 1])
def test_a_changed_byte_is_noticed(at: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= 1
    with pytest.raises(InvalidCiphertext):
        cipher.unseal(KEY, NONCE, bytes(changed), CONTEXT)


def test_another_context_is_noticed() -> None:
    with pytest.raises(InvalidCiphertext):
        cipher.unseal(KEY, NONCE, SEALED, CONTEXT + b"x")


@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), min_size=2, max_size=2, unique_by=repr))
def test_two_contexts_never_look_the_same(contexts: list[dict[str, str]]) -> None:
    first, second = contexts
    assert (first == second) is (cipher.context_bytes(first) == cipher.context_bytes(second))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0f0e0d0c-0b0a-4908-8706-050403020100", KeyName(None, "0f0e0d0c-0b0a-4908-8706-050403020100")),
        ("alias/models/eu", KeyName(None, "alias/models/eu")),
        ("arn:aws:kms:us-east-1:111122223333:key/k", KeyName(Home("111122223333", "us-east-1"), "k")),
        (
            "arn:aws-cn:kms:cn-north-1:111122223333:alias/a",
            KeyName(Home("111122223333", "cn-north-1"), "alias/a"),
        ),
        ("arn:aws:s3:::bucket", None),
        ("../../etc/passwd", None),
        ("", None),
    ],
)
def test_names_of_keys(text: str, name: KeyName | None) -> None:
    assert read_name(text) == name
