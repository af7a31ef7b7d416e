"""Backups: whole or refused, nothing overwritten, and the counter decides at the start."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk_calls import Desks, Pipe
from recovery_world import RecoveryWorld
from toy_mesh import MASTER_KEY, NOW, Counter, ToyBroker, ToyMesh

from wardian._internal import wire
from wardian.broker.limits import Place
from wardian.broker.recovery import backup as backups
from wardian.broker.recovery.backup import (
    MAGIC,
    BackupHeader,
    BackupRequest,
    back_up_files,
    key_path,
    package_path,
    read_package,
    read_sealed_key,
    restore_files,
    write_backup,
)
from wardian.broker.recovery.backup_desk import BackupDesk
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.store import Store
from wardian.errors import ConfigError, FormatError, QueueFull, SealError, StateRolledBack

ENTRY = AuditEntry(event="start", outcome="granted")


class Files:
    """The files of a stopped broker, and an empty place for them."""

    def __init__(self, directory: Path) -> None:
        (directory / "world").mkdir()
        self.world = RecoveryWorld(directory / "world")
        self.path, self.counter = self.world.broker.path, self.world.broker.counter
        key_path(self.path).write_bytes(b"sealed to its enclave")
        package_path(self.path).write_bytes(wire.encode(self.world.package))
        self.world.broker.close()
        self.file, self.there = directory / "x.backup", directory / "new" / "broker.db"
        self.there.parent.mkdir()

    def open(self, path: Path, counter: Counter | None = None) -> contextlib.closing[Store]:
        seam = (counter or self.counter).seam
        return contextlib.closing(Store(path, master_key=MASTER_KEY, counter=seam))

    def frames(self) -> list[bytes]:
        return list(back_up_files(self.path))

    def back_up(self) -> None:
        write_backup(self.file, self.frames())


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    return Files(tmp_path)


def test_what_was_backed_up_is_restored(files: Files) -> None:
    size = write_backup(files.file, files.frames())
    assert size == files.file.stat().st_size
    assert files.file.stat().st_mode & 0o777 == 0o600
    header = restore_files(files.file, files.there)
    assert header.package == read_package(files.there) == files.world.package
    assert read_sealed_key(files.there) == b"sealed to its enclave"
    with files.open(files.there) as store:
        assert store.get("ca", "key") is not None
    assert sorted(path.name for path in files.there.parent.iterdir()) == [
        "broker.db",
        "broker.master",
        "broker.recovery",
    ]


def test_a_backup_is_ciphertext(files: Files) -> None:
    files.back_up()
    raw = files.file.read_bytes()
    with files.open(files.path) as store:
        for place, key in (("ca", "key"), ("queue-key", "digits")):
            value = store.get(place, key)
            assert value is not None
            assert value not in raw


def test_an_older_backup_is_refused_where_its_broker_went_on(files: Files) -> None:
    files.back_up()
    with files.open(files.path) as store:
        store.commit(audit=[ENTRY], now=NOW)
    restore_files(files.file, files.there)
    with pytest.raises(StateRolledBack):
        files.open(files.there)


def test_a_broker_that_keeps_neither_key_nor_package(files: Files) -> None:
    key_path(files.path).unlink()
    package_path(files.path).unlink()
    files.back_up()
    header = restore_files(files.file, files.there)
    assert (header.sealed_key, header.package) == (b"", None)
    assert [path.name for path in files.there.parent.iterdir()] == ["broker.db"]


def test_a_running_broker_s_files_are_not_read(files: Files) -> None:
    with files.open(files.path), pytest.raises(ConfigError, match="another broker has this state"):
        files.frames()


def test_no_state_no_backup(files: Files) -> None:
    with pytest.raises(ConfigError, match="no broker's state here"):
        list(back_up_files(files.there))
    assert not files.there.exists()


@pytest.mark.parametrize("name", ["broker.db", "broker.master", "broker.recovery"])
def test_a_restore_overwrites_nothing(files: Files, name: str) -> None:
    files.back_up()
    (files.there.parent / name).write_bytes(b"precious")
    with pytest.raises(ConfigError, match="overwrites nothing"):
        restore_files(files.file, files.there)
    assert [path.name for path in files.there.parent.iterdir()] == [name]
    assert (files.there.parent / name).read_bytes() == b"precious"


def test_a_restore_that_was_cut_off_is_taken_up(files: Files) -> None:
    """A broker that restores at its start would else never start again, and nobody else may."""
    files.back_up()
    key_path(files.there).write_bytes(read_sealed_key(files.path))
    package_path(files.there).write_bytes(package_path(files.path).read_bytes())
    files.there.with_name(f"{files.there.name}.incoming").write_bytes(b"half")
    restore_files(files.file, files.there)
    with files.open(files.there) as store:
        assert store.generation
    with pytest.raises(ConfigError, match="overwrites nothing"):
        restore_files(files.file, files.there)


def test_a_backup_overwrites_nothing(files: Files) -> None:
    files.file.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="never overwritten"):
        files.back_up()
    assert files.file.read_bytes() == b"precious"
    with pytest.raises(ConfigError, match="cannot be written"):
        write_backup(files.file.parent / "missing" / "x", [])


def test_a_backup_that_breaks_off_leaves_no_file(files: Files) -> None:
    def frames() -> Iterator[bytes]:
        yield b"header"
        raise SealError("damaged")

    with pytest.raises(SealError):
        write_backup(files.file, frames())
    assert not list(files.file.parent.glob("*.part"))
    assert not files.file.exists()


def test_a_file_that_was_cut_anywhere_is_no_backup(files: Files) -> None:
    files.back_up()
    raw = files.file.read_bytes()
    for end in {*range(40), len(raw) - 1, len(raw) - 100, len(raw) // 2, len(raw) // 3}:
        files.file.write_bytes(raw[:end])
        with pytest.raises(FormatError):
            restore_files(files.file, files.there)
        assert list(files.there.parent.iterdir()) == []


def test_a_backup_without_its_last_piece(files: Files) -> None:
    write_backup(files.file, files.frames()[:-1])
    with pytest.raises(FormatError, match="ends before the state does"):
        restore_files(files.file, files.there)
    assert list(files.there.parent.iterdir()) == []


def test_files_that_are_no_backups(files: Files) -> None:
    files.back_up()
    raw = files.file.read_bytes()
    longer = (2**31).to_bytes(4, "big")
    for bad in (b"SQLite format 3", MAGIC, MAGIC + longer, raw + b"\0\0\0\1x", MAGIC + b"\0\0\0\0"):
        files.file.write_bytes(bad)
        with pytest.raises((FormatError, SealError)):
            restore_files(files.file, files.there)
        assert list(files.there.parent.iterdir()) == []


def test_files_that_cannot_be_read_or_written(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        restore_files(files.file, files.there)
    files.back_up()
    for name in (key_path, package_path):
        name(files.path).unlink()
        name(files.path).mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_package(files.path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_sealed_key(files.path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backups, "replace_file", full)
    with pytest.raises(ConfigError, match="No space left"):
        restore_files(files.file, files.there)
    assert list(files.there.parent.iterdir()) == []


def test_a_package_beside_the_state_that_is_none(files: Files) -> None:
    package_path(files.path).write_bytes(b"{}")
    with pytest.raises(ConfigError, match="recovery package"):
        read_package(files.path)


def test_a_header_is_strict() -> None:
    with pytest.raises(FormatError):
        wire.decode(b'{"format":"wardian broker backup v1"}', BackupHeader, what="header")


async def test_a_stranger_leaves_some_backups_for_the_operator(
    mesh: ToyMesh, tmp_path: Path
) -> None:
    with contextlib.closing(ToyBroker(mesh, tmp_path / "broker.db")) as broker:
        desks = Desks(broker)
        desk = BackupDesk(desks.office)

        async def ask(peer: str) -> int:
            here, there = Pipe.pair()
            await desk.serve(there, Place(peer=peer), b"", BackupRequest())  # type: ignore[arg-type]
            return here.inbox.qsize()

        assert [await ask("stranger") > 1 for _ in range(2)] == [True, True]
        for _ in range(10):
            with pytest.raises(QueueFull, match="one address"):
                await ask("stranger")
        assert await ask("operator") > 1
        await desks.close()
