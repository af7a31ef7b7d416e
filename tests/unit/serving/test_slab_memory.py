"""A slab is memory that others change: what is passed as one, and where messages lie in it."""

import errno
import fcntl
import mmap
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from wardian.errors import LocalProtocolError, PeerProtocolError
from wardian.serving.queue.blocks import GRAIN_BYTES
from wardian.serving.queue.slab import MAX_SLAB_BYTES, Place, adopt, create, is_size, parse_place
from wardian.serving.queue.slab_handover import Offer, parse_offer

SIZE = 4 * GRAIN_BYTES
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def pair():
    """Return the slab of the side that writes and of the side that reads, and the descriptor."""
    slab, descriptor = create(SIZE, writes=True)
    other = adopt(descriptor, SIZE, writes=False)
    yield slab, other, descriptor
    os.close(descriptor)
    other.close()
    slab.close()


def test_what_one_side_writes_the_other_reads(pair):
    slab, other, _ = pair
    slab.write(GRAIN_BYTES, b"sealed")
    assert other.read(Place(1, GRAIN_BYTES, 6)) == b"sealed"


def test_what_was_read_does_not_change_any_more(pair):
    """T10: it is authenticated and opened from the copy."""
    slab, other, _ = pair
    slab.write(0, b"sealed")
    copy = other.read(Place(1, 0, 6))
    slab.write(0, b"forged")
    assert copy == b"sealed"
    assert type(copy) is bytes


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 0),
        (0, SIZE + 1),
        (SIZE - GRAIN_BYTES, GRAIN_BYTES + 1),
        (SIZE, 1),
        (2**32 - GRAIN_BYTES, 1),
        (2**32 - GRAIN_BYTES, 2**32 - 1),
        (0, 2**32 - 1),
        (1, 1),
        (-GRAIN_BYTES, 1),
    ],
)
def test_a_place_outside_is_refused(pair, offset, length):
    with pytest.raises(PeerProtocolError, match="outside"):
        pair[1].read(Place(1, offset, length))


def test_a_slab_cannot_be_made_shorter_or_longer_and_its_reader_cannot_write(pair):
    _, _, descriptor = pair
    for size in (0, SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    with pytest.raises(PermissionError):
        mmap.mmap(descriptor, SIZE)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_a_memory_that_is_made_shorter_kills_who_reads_it():
    """The attack, where nobody looks at seals: the next test is what stands against it."""
    source = f"""
import mmap, os
fd = os.memfd_create("x")
os.ftruncate(fd, {SIZE})
mapped = mmap.mmap(fd, {SIZE})
os.ftruncate(fd, 0)
bytes(mapped[:10])
"""
    done = subprocess.run([sys.executable, "-I", "-c", source], check=False)
    assert done.returncode == -signal.SIGBUS


@pytest.mark.parametrize("missing", [SEALS, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW])
def test_memory_of_a_size_that_can_change_is_no_slab(missing):
    descriptor = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    with closing(os.fdopen(descriptor, "rb")):
        os.ftruncate(descriptor, SIZE)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS & ~missing)
        with pytest.raises(PeerProtocolError, match="shorter"):
            adopt(descriptor, SIZE, writes=False)


@pytest.mark.parametrize("size", [SIZE - GRAIN_BYTES, SIZE + GRAIN_BYTES, 0])
def test_memory_of_another_size_is_not_the_slab_that_was_offered(pair, size):
    with pytest.raises(PeerProtocolError, match="another size"):
        adopt(pair[2], size, writes=False)


def test_what_is_no_memory_is_no_slab(tmp_path):
    read, write = os.pipe()
    null = os.open("/dev/zero", os.O_RDWR)
    with (tmp_path / "file").open("w+b") as file:
        file.truncate(SIZE)
        for descriptor in (read, write, null, file.fileno(), 10**6):
            with pytest.raises(PeerProtocolError):
                adopt(descriptor, SIZE, writes=True)
    for descriptor in (read, write, null):
        os.close(descriptor)


def test_a_reader_s_slab_is_not_adopted_to_write(pair):
    with pytest.raises(PeerProtocolError, match="mapped"):
        adopt(pair[2], SIZE, writes=True)


@pytest.mark.parametrize("garbage", [b"", bytes(15), bytes(17), bytes(1000)])
def test_garbage_is_no_place(garbage):
    with pytest.raises(PeerProtocolError):
        parse_place(garbage)


def test_a_place_comes_back():
    place = Place(2**64 - 1, 2**32 - 1, 7)
    assert parse_place(place.build()) == place
    assert place.build().hex() == "ffffffffffffffffffffffff00000007"


def test_an_offer_comes_back():
    offer = Offer(3, b"t" * 32, SIZE, 2 * SIZE)
    built = offer.build()
    assert parse_offer(3, built[13:]) == offer
    assert built.hex() == (
        "00000039050000000000000003" + "74" * 32 + "00000000000040000000000000008000"
    )


@pytest.mark.parametrize(
    "offer",
    [
        Offer(0, b"t" * 32, SIZE, SIZE),
        Offer(1, b"t" * 32, 0, SIZE),
        Offer(1, b"t" * 32, SIZE, 0),
        Offer(1, b"t" * 32, SIZE + 1, SIZE),
        Offer(1, b"t" * 32, SIZE, MAX_SLAB_BYTES + GRAIN_BYTES),
        Offer(1, b"t" * 32, 2**64 - GRAIN_BYTES, SIZE),
    ],
)
def test_an_offer_that_cannot_be(offer):
    with pytest.raises(PeerProtocolError):
        parse_offer(offer.generation, offer.build()[13:])


def test_garbage_is_no_offer():
    for length in (0, 47, 49):
        with pytest.raises(PeerProtocolError):
            parse_offer(1, bytes(length))
    assert not is_size(-GRAIN_BYTES)


def test_where_the_system_gives_no_memory_nothing_stays_open():
    before = open_descriptors()
    with pytest.raises((OSError, OverflowError)):
        create(2**62, writes=True)
    assert open_descriptors() == before


def test_memory_is_asked_for_before_it_is_touched(pair, monkeypatch):
    slab, other, descriptor = pair

    def refuse(*_: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert not slab.write(0, b"sealed")
    assert os.fstat(descriptor).st_blocks == 0
    monkeypatch.undo()
    assert slab.write(0, b"sealed")
    assert os.fstat(descriptor).st_blocks * 512 == SIZE
    with pytest.raises(LocalProtocolError):
        other.write(0, b"x")


def test_a_closed_slab_leaves_nothing_open():
    before = open_descriptors()
    slab, descriptor = create(SIZE, writes=True)
    slab.write(0, b"x")
    slab.close()
    slab.close()
    os.close(descriptor)
    assert open_descriptors() == before


def test_a_kernel_that_knows_less_gives_slabs_as_well(monkeypatch):
    made = os.memfd_create
    asked = []

    def old(name: str, flags: int) -> int:
        asked.append(flags)
        if flags & 0x8:
            raise OSError(errno.EINVAL, "invalid argument")
        return made(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    slab, descriptor = create(SIZE, writes=True)
    assert len(asked) == 2
    adopt(descriptor, SIZE, writes=False).close()
    os.close(descriptor)
    slab.close()


def test_a_slab_is_no_program(pair):
    if not fcntl.fcntl(pair[2], fcntl.F_GET_SEALS) & 0x20:
        pytest.skip("this kernel knows no F_SEAL_EXEC (Linux before 6.3)")
    with pytest.raises(OSError, match="denied|permitted"):
        os.fchmod(pair[2], 0o700)
