"""The policy of models on one instance: one load a model, who makes room, nobody starves."""

from collections import Counter
from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from moorage.front.models.shelf import Book, Load, Shelf, State, Unload


def told(shelf: Shelf) -> list[str]:
    return [f"{type(action).__name__.lower()} {action.book.name}" for action in shelf.todo()]


def load(shelf: Shelf, name: str) -> Book:
    """Have a model loaded that nobody uses."""
    book = shelf.use(name)
    assert told(shelf) == [f"load {name}"]
    shelf.loaded(book)
    shelf.done(book)
    assert told(shelf) == []
    return book


def test_all_who_want_a_cold_model_wait_for_one_load() -> None:
    shelf = Shelf(most_loads=2)
    books = [shelf.use("a") for _ in range(3)]
    assert told(shelf) == ["load a"]
    assert told(shelf) == []
    shelf.loaded(books[0])
    assert books[0].users == 3
    assert shelf.use("a") is books[0]
    assert books[0].state is State.LOADED
    assert books[0].users == 4


def test_no_more_loads_go_on_than_may_and_the_first_come_first() -> None:
    shelf = Shelf(most_loads=2)
    books = [shelf.use(name) for name in "abcd"]
    assert told(shelf) == ["load a", "load b"]
    shelf.loaded(books[1])
    assert told(shelf) == ["load c"]
    shelf.failed(books[0])
    assert told(shelf) == ["load d"]


def test_the_one_used_longest_ago_makes_room_and_the_load_is_tried_again() -> None:
    shelf = Shelf(most_loads=2)
    load(shelf, "a")
    load(shelf, "b")
    shelf.done(shelf.use("a"))
    new = shelf.use("c")
    assert told(shelf) == ["load c"]
    assert shelf.no_room(new)
    assert told(shelf) == ["unload b"]
    assert told(shelf) == []
    shelf.unloaded(shelf.get("b") or new)
    assert told(shelf) == ["load c"]
    shelf.loaded(new)
    assert shelf.get("b") is None
    assert shelf.loaded_count == 2


def test_a_model_in_use_is_unloaded_only_when_it_is_done_and_only_if_no_other_is_idle() -> None:
    shelf = Shelf(most_loads=2)
    used = load(shelf, "a")
    shelf.use("a")
    new = shelf.use("b")
    assert told(shelf) == ["load b"]
    assert shelf.no_room(new)
    assert told(shelf) == []
    late = shelf.use("a")
    assert used.state is State.DRAINING
    shelf.done(used)
    assert told(shelf) == ["unload a"]
    shelf.unloaded(used)
    assert told(shelf) == ["load b", "load a"]
    shelf.loaded(new)
    assert late.waiting == 1


def test_nothing_is_left_to_make_room() -> None:
    shelf = Shelf(most_loads=2)
    book = shelf.use("a")
    assert told(shelf) == ["load a"]
    assert not shelf.no_room(book)
    assert shelf.get("a") is None


def test_two_that_fit_one_at_a_time_are_tried_alone_before_they_are_given_up() -> None:
    shelf = Shelf(most_loads=2)
    one, other = shelf.use("a"), shelf.use("b")
    assert told(shelf) == ["load a", "load b"]
    assert shelf.no_room(one)
    assert told(shelf) == []
    assert shelf.no_room(other)
    shelf.use("c")
    assert told(shelf) == ["load a"]
    shelf.loaded(one)
    shelf.done(one)
    assert told(shelf) == ["unload a"]


def test_while_room_is_made_no_further_load_begins() -> None:
    shelf = Shelf(most_loads=4)
    old = load(shelf, "a")
    new = shelf.use("b")
    assert told(shelf) == ["load b"]
    assert shelf.no_room(new)
    shelf.use("c")
    assert told(shelf) == ["unload a"]
    shelf.unloaded(old)
    assert told(shelf) == ["load b", "load c"]


def test_without_a_cache_a_model_goes_when_nobody_uses_it() -> None:
    shelf = Shelf(most_loads=2, caches=False)
    book = shelf.use("a")
    shelf.use("a")
    assert told(shelf) == ["load a"]
    shelf.loaded(book)
    shelf.done(book)
    assert told(shelf) == []
    shelf.done(book)
    assert told(shelf) == ["unload a"]
    again = shelf.use("a")
    assert told(shelf) == []
    shelf.unloaded(book)
    assert told(shelf) == ["load a"]
    shelf.stop_waiting(again)
    shelf.loaded(again)
    assert told(shelf) == ["unload a"]


def test_a_model_that_was_lost_is_loaded_anew_and_those_who_used_it_end_as_they_will() -> None:
    shelf = Shelf(most_loads=2)
    book = load(shelf, "a")
    for _ in range(3):
        shelf.use("a")
    shelf.lost(book)
    shelf.lost(book)
    assert shelf.loaded_count == 0
    shelf.done(book)
    again = shelf.use("a")
    assert told(shelf) == ["load a"]
    shelf.loaded(again)
    shelf.lost(book)
    assert shelf.loaded_count == 1
    shelf.done(book)
    shelf.done(book)
    assert again.users == 1


def test_a_load_that_takes_too_long_is_given_up_wherever_it_is() -> None:
    shelf = Shelf(most_loads=1)
    old = load(shelf, "a")
    short, queued = shelf.use("b"), shelf.use("c")
    assert told(shelf) == ["load b"]
    assert shelf.no_room(short)
    assert told(shelf) == ["unload a"]
    shelf.failed(short)
    shelf.failed(queued)
    shelf.unloaded(old)
    assert told(shelf) == []
    assert [shelf.get(name) for name in "abc"] == [None, None, None]


def test_a_model_that_lacks_memory_when_it_is_used_gets_that_of_an_idle_one() -> None:
    shelf = Shelf(most_loads=2)
    for name in "abc":
        load(shelf, name)
    shelf.use("b")
    greedy = shelf.use("c")
    assert shelf.make_room(greedy) is shelf.get("a")
    assert told(shelf) == ["unload a"]
    assert shelf.make_room(greedy) is None


def test_what_was_loaded_before_can_make_room() -> None:
    shelf = Shelf(most_loads=2)
    shelf.adopt("old")
    assert shelf.loaded_count == 1
    new = shelf.use("a")
    assert told(shelf) == ["load a"]
    assert shelf.no_room(new)
    assert told(shelf) == ["unload old"]


def test_files_of_models_that_nobody_needs_can_go_the_oldest_first() -> None:
    shelf = Shelf(most_loads=2)
    books = [load(shelf, name) for name in "abc"]
    for name in "abc":
        shelf.stored(name)
    assert shelf.removable() is None
    shelf.lost(books[1])
    shelf.lost(books[0])
    assert shelf.removable() == "a"
    shelf.use("a")
    assert shelf.removable() == "b"
    shelf.removed("b")
    assert shelf.removable() is None


class Container:
    """A container with so much memory, whose loads and unloads take as long as chance wants."""

    def __init__(self, capacity: int, sizes: dict[str, int], *, most_loads: int, caches: bool) -> None:
        self.shelf = Shelf(most_loads=most_loads, caches=caches)
        self.most_loads = most_loads
        self.capacity = capacity
        self.sizes = sizes
        self.memory: dict[str, int] = {}
        self.loading: list[Book] = []
        self.unloading: list[Book] = []
        self.waiting: list[tuple[str, Book]] = []
        self.using: list[Book] = []
        self.refused: Counter[str] = Counter()
        self.served: Counter[str] = Counter()

    def act(self) -> None:
        for action in self.shelf.todo():
            match action:
                case Load(book):
                    assert book.name not in self.memory
                    assert book not in self.loading
                    self.loading.append(book)
                case Unload(book):
                    assert book.users == 0
                    assert book.name in self.memory
                    self.unloading.append(book)
        assert len(self.loading) <= self.most_loads
        assert self.shelf.loaded_count == len(self.memory)

    def ask(self, name: str) -> None:
        book = self.shelf.use(name)
        if book.state is State.LOADED:
            self.using.append(book)
            assert name in self.memory
        else:
            self.waiting.append((name, book))

    def end_load(self, place: int) -> None:
        book = self.loading.pop(place % len(self.loading))
        used = sum(self.memory.values()) + sum(self.sizes[other.name] for other in self.loading)
        waiting = [entry for entry in self.waiting if entry[0] == book.name]
        if used + self.sizes[book.name] <= self.capacity:
            self.memory[book.name] = self.sizes[book.name]
            self.shelf.loaded(book)
            assert book.users >= len(waiting)
            self.using += [book for _ in waiting]
        elif self.shelf.no_room(book):
            return
        else:
            assert self.sizes[book.name] > self.capacity
            self.refused[book.name] += len(waiting)
        self.waiting = [entry for entry in self.waiting if entry[0] != book.name]

    def end_unload(self, place: int) -> None:
        book = self.unloading.pop(place % len(self.unloading))
        del self.memory[book.name]
        self.shelf.unloaded(book)

    def end_use(self, place: int) -> None:
        book = self.using.pop(place % len(self.using))
        self.served[book.name] += 1
        self.shelf.done(book)

    def works(self) -> list[Callable[[int], None]]:
        return [
            work
            for work, there in (
                (self.end_load, self.loading),
                (self.end_unload, self.unloading),
                (self.end_use, self.using),
            )
            if there
        ]


@given(
    asked=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40),
    sizes=st.fixed_dictionaries({name: st.integers(1, 9) for name in "abcdef"}),
    most_loads=st.integers(1, 3),
    caches=st.booleans(),
    chance=st.randoms(use_true_random=False),
)
def test_whatever_happens_all_that_fit_are_served(
    asked: list[str],
    sizes: dict[str, int],
    most_loads: int,
    caches: bool,  # noqa: FBT001 - hypothesis gives it
    chance: Random,
) -> None:
    container = Container(8, sizes, most_loads=most_loads, caches=caches)
    expected = Counter(asked)
    for _step in range(5000):
        works = container.works()
        if asked and (not works or chance.random() < 0.4):
            container.ask(asked.pop())
        elif works:
            chance.choice(works)(chance.randrange(100))
        else:
            break
        container.act()
    assert not container.waiting
    for name, count in expected.items():
        fits = sizes[name] <= 8
        assert (container.served if fits else container.refused)[name] == count
    assert container.shelf.loaded_count == len(container.memory)
    assert caches or not container.memory
