"""A table's owner seals other rows under the same pin: they are not read for a debit of before."""

import io
import os
from pathlib import Path

import pytest
from shared_world import A, Owner, csv_text
from toy_reseal import reseal

from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_file import Pin, SealedReader, seal_stream
from wardian.errors import AuthenticationFailed, ConfigError, FormatError
from wardian.learning.shared.columns import Kind
from wardian.learning.shared.csv_table import MEDIA_TYPE
from wardian.learning.shared.fixed import BLOCK_BYTES, FixedFile, digest_of, look_through
from wardian.learning.shared.tables import SealedTable

CHUNK = 4096
ROWS = csv_text({"x": range(10_000, 30_000)})
OTHERS = ROWS.replace(b"\n10000\n", b"\n99999\n")


def sealed(owner: Owner, content: bytes) -> Pin:
    with owner.path.open("wb") as file:
        return seal_stream(
            io.BytesIO(content),
            file,
            total_bytes=len(content),
            recipients=[BrokerKey(owner.key)],
            media_type=MEDIA_TYPE,
            name=owner.table,
            version=1,
            chunk_bytes=CHUNK,
        )


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    owner = Owner(A, tmp_path, b"x\n1\n")
    owner.pin = sealed(owner, ROWS)
    return owner


def table(owner: Owner, *, fixed: bool) -> SealedTable:
    content = look_through(owner.path, where="a") if fixed else None
    return SealedTable(
        owner=A, name=owner.table, path=owner.path, pin=owner.pin, key=owner.key, content=content
    )


def read(owner: Owner, given: SealedTable) -> list[float]:
    found: list[float] = given.read({"x": Kind.NUMBER})["x"].tolist()
    return found


def test_other_rows_under_the_same_pin_are_another_content(owner: Owner) -> None:
    before = table(owner, fixed=True)
    assert read(owner, before)[0] == 10_000
    reseal(owner.path, OTHERS, owner.key)
    assert read(owner, table(owner, fixed=False))[0] == 99_999  # the pin alone does not tell
    with pytest.raises(AuthenticationFailed, match="changed since"):
        read(owner, before)
    after = table(owner, fixed=True)
    assert read(owner, after)[0] == 99_999
    assert before.content is not None
    assert after.content is not None
    assert before.content.digest != after.content.digest
    assert digest_of({"a": before.content}) != digest_of({"a": after.content})
    assert digest_of({"a": before.content}) != digest_of({"b": before.content})


def test_it_changes_while_it_is_read(owner: Owner) -> None:
    given = table(owner, fixed=True)
    batches = given.batches({"x": Kind.NUMBER})
    reseal(owner.path, OTHERS, owner.key)
    with pytest.raises(AuthenticationFailed, match="changed since"):
        list(batches)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2_500_000])
def test_what_is_read_is_what_is_there(tmp_path: Path, size: int) -> None:
    path, raw = tmp_path / "file", os.urandom(size)
    path.write_bytes(raw)
    content = look_through(path, where="a")
    assert content.size == size
    with FixedFile(path.open("rb"), content) as file:
        assert file.read() == raw
        assert file.seek(-min(size, 5), io.SEEK_END) == max(0, size - 5)
        rest = io.BufferedReader(file)
        assert rest.read(9) == raw[max(0, size - 5) :]
        assert file.read(1) == b""
        middle = size // 2
        file.seek(middle)
        buffered = io.BufferedReader(file)
        assert buffered.read(100) == raw[middle : middle + 100]


@pytest.mark.parametrize("at", [0, BLOCK_BYTES, 2_499_999])
def test_any_byte_that_changes_is_found(tmp_path: Path, at: int) -> None:
    path, raw = tmp_path / "file", bytearray(2_500_000)
    path.write_bytes(raw)
    content = look_through(path, where="a")
    raw[at] = 1
    path.write_bytes(raw)
    with FixedFile(path.open("rb"), content) as file, pytest.raises(AuthenticationFailed):
        file.read()
    path.write_bytes(bytes(2_400_000))
    with FixedFile(path.open("rb"), content) as file, pytest.raises(FormatError):
        file.read()
    path.write_bytes(bytes(2_600_000))  # what was not there before is not read
    with FixedFile(path.open("rb"), content) as file:
        assert file.read() == bytes(2_500_000)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="hospital-a, table x: cannot be read"):
            look_through(path, where="hospital-a, table x")


def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(owner: Owner) -> None:
    owner.path.unlink()
    os.mkfifo(owner.path)
    given = SealedTable(owner=A, name=owner.table, path=owner.path, pin=owner.pin, key=owner.key)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(owner, given)


def test_a_reader_of_sealed_files_reads_it(owner: Owner) -> None:
    content = look_through(owner.path, where="a")
    with FixedFile(owner.path.open("rb"), content) as file:
        reader = SealedReader(
            file,
            identities=[BrokerKey(owner.key)],
            pin=owner.pin,
            media_type=MEDIA_TYPE,
            name=owner.table,
            version=1,
        )
        assert reader.read(0, len(ROWS)) == ROWS
