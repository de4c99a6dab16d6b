"""The filter of system calls, run by a small interpreter of the kernel's filter language: both processors."""

import errno
import re
import struct
from pathlib import Path

import pytest

from moorage.serving.seccomp import PROCESSORS, make_program, refused_calls

ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}

both = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def decide(machine: str, number: int, argument: int = 0, *, architecture: int | None = None) -> int:
    """Do what the kernel does with the program for one call."""
    audit = PROCESSORS[machine].audit if architecture is None else architecture
    call = struct.pack("<IIQQ", number, audit, 0, argument) + bytes(40)
    program = list(struct.iter_unpack("<HBBI", make_program(machine)))
    accumulator: int = 0
    at = 0
    while True:
        operation, if_true, if_false, operand = program[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", call, operand)
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case 0x06:
                return int(operand)
            case other:
                raise AssertionError(f"operation {other:#x} is not of the filter language")


@both
def test_everything_is_allowed_that_is_not_refused(machine: str) -> None:
    refused = set(refused_calls(machine).values())
    assert {number for number in range(512) if decide(machine, number) != ALLOW} == refused


@both
def test_refusals_are_eperm_and_of_what_libraries_do_without_enosys(machine: str) -> None:
    absent = {"io_uring_setup", "io_uring_enter", "io_uring_register", "clone3"}
    for name, number in refused_calls(machine).items():
        assert decide(machine, number) == ERROR | (errno.ENOSYS if name in absent else errno.EPERM), name


@both
@pytest.mark.parametrize("number", [0, 39, 172, 165, 511])
def test_calls_by_another_processors_convention_end_the_process(machine: str, number: int) -> None:
    for architecture in (
        0x40000003,
        0x40000028,
        *(other.audit for name, other in PROCESSORS.items() if name != machine),
    ):
        assert decide(machine, number, architecture=architecture) == KILL


def test_calls_of_x32_end_the_process() -> None:
    assert decide("x86_64", 0x40000000 | 39) == KILL


@both
@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_no_child_is_born_in_a_namespace_of_its_own(machine: str, flag: int) -> None:
    assert decide(machine, PROCESSORS[machine].clone, flag | 17) == ERROR | errno.EPERM


@both
@pytest.mark.parametrize("flags", [17, 0x1200011, 0x3D0F00], ids=["fork", "glibc's fork", "glibc's thread"])
def test_processes_and_threads_are_born(machine: str, flags: int) -> None:
    assert decide(machine, PROCESSORS[machine].clone, flags) == ALLOW


@both
def test_only_the_sockets_of_ordinary_programs_are_made(machine: str) -> None:
    made = {family for family in range(64) if decide(machine, PROCESSORS[machine].socket, family) == ALLOW}
    assert made == {0, 1, 2, 10, 16}
    assert decide(machine, PROCESSORS[machine].socket, 40) == ERROR | errno.EAFNOSUPPORT


@both
def test_personality_can_be_asked_for_and_no_protection_is_switched_off_by_it(machine: str) -> None:
    number = PROCESSORS[machine].personality
    assert decide(machine, number, 0xFFFFFFFF) == decide(machine, number, 0) == ALLOW
    assert decide(machine, number, 0x0400000) == decide(machine, number, 0x0040000) == ERROR | errno.EPERM


@both
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not here (package linux-libc-dev)")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text(encoding="ascii"))
    numbers = {name: int(number) for name, number in defined}
    processor = PROCESSORS[machine]
    ours = refused_calls(machine) | {
        "clone": processor.clone,
        "personality": processor.personality,
        "socket": processor.socket,
    }
    # Of calls that are younger than the headers nothing is said there.
    assert {name: numbers.get(name, number) for name, number in ours.items()} == ours


def test_other_processors_have_no_program() -> None:
    with pytest.raises(KeyError):
        make_program("riscv64")
