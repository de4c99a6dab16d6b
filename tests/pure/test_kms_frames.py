"""Frames and journals: every size, every cut, every place; what is not as it was written is noticed."""

import io
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.kms.faults import InvalidCiphertext
from moorage.kms.frames import FRAME_BYTES, HEAD_BYTES, FrameOpener, FrameSealer, sealed_size
from moorage.kms.journal import JournalSealer, read_journal

KEY = bytes(range(32))
SEALED_FRAME = FRAME_BYTES + 16


def seal(*pieces: bytes) -> bytes:
    sealer = FrameSealer(KEY)
    return b"".join([*(sealer.feed(piece) for piece in pieces), sealer.finish()])


def read(sealed: bytes, size: int, start: int, end: int) -> bytes:
    opener = FrameOpener(KEY, sealed[:HEAD_BYTES], size)
    first, behind = opener.span(start, end)
    return opener.open(sealed[first:behind], start, end)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES])
def test_a_content_of_any_size_comes_back(size: int) -> None:
    content = pattern(size)
    sealed = seal(content)
    assert len(sealed) == sealed_size(size)
    assert read(sealed, size, 0, size) == content


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_piece_of_it_comes_back_however_it_was_cut(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 3 * FRAME_BYTES + 9))
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=6)))
    content = pattern(size)
    ends = [0, *cuts, size]
    sealed = seal(*(content[start:end] for start, end in pairwise(ends)))
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    assert read(sealed, size, start, end) == content[start:end]


def test_two_contents_under_one_key_have_nothing_in_common() -> None:
    one, two = seal(bytes(100)), seal(bytes(100))
    assert one[:HEAD_BYTES] != two[:HEAD_BYTES]
    assert one[HEAD_BYTES:] != two[HEAD_BYTES:]


def test_frames_cannot_be_moved_left_out_or_given_to_another_content() -> None:
    size = 2 * FRAME_BYTES + 10
    sealed, other = seal(pattern(size)), seal(pattern(size))
    head = sealed[:HEAD_BYTES]
    frames = [sealed[at : at + SEALED_FRAME] for at in range(HEAD_BYTES, len(sealed), SEALED_FRAME)]
    swapped = head + frames[1] + frames[0] + frames[2]
    without = head + frames[1] + frames[2]
    foreign = head + other[HEAD_BYTES : HEAD_BYTES + SEALED_FRAME] + frames[1] + frames[2]
    for wrong in (swapped, without, foreign, sealed[:-1]):
        with pytest.raises(InvalidCiphertext):
            read(wrong, size, 0, size)


def test_a_content_that_was_cut_at_a_frame_is_not_taken_for_a_shorter_one() -> None:
    sealed = seal(pattern(2 * FRAME_BYTES + 10))
    cut = sealed[: HEAD_BYTES + 2 * SEALED_FRAME]
    with pytest.raises(InvalidCiphertext):
        read(cut, 2 * FRAME_BYTES, 0, 2 * FRAME_BYTES)
    with pytest.raises(InvalidCiphertext):
        read(cut, 2 * FRAME_BYTES + 10, 0, 2 * FRAME_BYTES + 10)


def journal(*pieces: bytes) -> tuple[bytes, list[bytes]]:
    sealer = JournalSealer(KEY)
    return sealer.head, [sealer.seal(piece) for piece in pieces]


def test_a_journal_comes_back_up_to_what_was_torn() -> None:
    head, pieces = journal(b"one", b"", b"three")
    whole = head + b"".join(pieces)
    assert list(read_journal(KEY, io.BytesIO(whole))) == [b"one", b"", b"three"]
    for length in range(len(whole)):
        found = list(read_journal(KEY, io.BytesIO(whole[:length])))
        assert found == [b"one", b"", b"three"][: len(found)]
        assert len(found) < 3


def test_pieces_of_a_journal_cannot_be_moved_left_out_or_changed() -> None:
    head, (one, two) = journal(b"one", b"two")
    changed = one[:-1] + bytes([one[-1] ^ 1])  # whatever its last byte is, this is another
    for wrong in (head + two + one, head + two, head + changed + two, head + (1).to_bytes(4, "big") + b"?"):
        with pytest.raises(InvalidCiphertext):
            list(read_journal(KEY, io.BytesIO(wrong)))
