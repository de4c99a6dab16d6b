from hypothesis import given
from hypothesis import strategies as st

from moorage.routing.kv_memory import BLOCK_BYTES, KvMemory, make_chain


def start(letters: str) -> bytes:
    """Make a start of one block a letter."""
    return b"".join(letter.encode() * BLOCK_BYTES for letter in letters)


def chain(letters: str) -> list[bytes]:
    return make_chain(b"", start(letters))


def test_chains_share_the_blocks_of_the_start_they_share() -> None:
    one, other = chain("abcd"), chain("abxd")
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])
    assert chain("aba")[0] != chain("aba")[2]


def test_only_whole_blocks_count() -> None:
    assert make_chain(b"", start("ab")[:-1]) == chain("a")
    assert make_chain(b"", start("a")[:-1]) == make_chain(b"", b"") == []


def test_variants_do_not_share() -> None:
    assert make_chain(b"one\0", start("a")) != make_chain(b"other\0", start("a"))


def test_holder_of_the_longest_start_comes_first() -> None:
    memory = KvMemory()
    memory.note(chain("abcd"), "long")
    memory.note(chain("ab"), "short")
    assert list(memory.holders(chain("abcdef")).items()) == [("long", 4), ("short", 2)]
    assert list(memory.holders(chain("abxy")).items()) == [("short", 2)]
    assert memory.holders(chain("x")) == {}
    assert memory.holders([]) == {}


def test_the_oldest_starts_are_forgotten_and_their_ends_before_their_beginnings() -> None:
    memory = KvMemory(blocks_kept=4)
    memory.note(chain("abc"), "i")
    memory.note(chain("xy"), "j")
    assert (memory.holders(chain("abc")), memory.holders(chain("xy"))) == ({"i": 2}, {"j": 2})
    assert repr(memory) == "<KvMemory: 4 of 4 blocks>"


def test_a_start_that_is_used_is_kept() -> None:
    memory = KvMemory(blocks_kept=2)
    memory.note(chain("a"), "i")
    memory.note(chain("b"), "i")
    memory.note(chain("a"), "i")
    memory.note(chain("c"), "i")
    assert (memory.holders(chain("a")), memory.holders(chain("b"))) == ({"i": 1}, {})


def test_a_chain_longer_than_the_memory_leaves_its_beginning() -> None:
    memory = KvMemory(blocks_kept=2)
    memory.note(chain("abcde"), "i")
    assert memory.holders(chain("abcde")) == {"i": 2}


LETTERS = st.text("ab", min_size=1, max_size=5)
HISTORY = st.lists(st.tuples(LETTERS, st.sampled_from(["i", "j", "k"])), max_size=12)


@given(HISTORY, LETTERS)
def test_holders_are_those_of_a_full_record(history: list[tuple[str, str]], asked: str) -> None:
    memory = KvMemory()
    for letters, instance_id in history:
        memory.note(chain(letters), instance_id)
    wanted: dict[str, int] = {}
    for blocks in range(len(asked), 0, -1):
        seen = [who for letters, who in history if letters.startswith(asked[:blocks])]
        if seen:
            wanted.setdefault(seen[-1], blocks)
    assert list(memory.holders(chain(asked)).items()) == list(wanted.items())
