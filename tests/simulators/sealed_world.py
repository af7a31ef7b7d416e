"""What sealed state stands on, played by a test: an enclave, a counter, and a disk that loses things.

`World` counts the steps of disk and counter together. Killed at a step, nothing of this process
happens any more; what the disk then still holds, `World.power_cut` decides.
"""

import errno
from collections.abc import Callable
from pathlib import Path

from wardian._internal.counter import MonotonicCounter
from wardian.crypto.secret import Secret
from wardian.errors import CounterUnavailable, SealError
from wardian.tee.backend import SealTo
from wardian.tee.sealed_state import SealedPlace
from wardian.tee.state_file import Disk

PATH = Path("/state/box")
LABEL = "test state"


class Killed(BaseException):
    """The process is gone."""


class FakeEnclave:
    """Two keys, as a TEE gives them."""

    def __init__(self, measurement: bytes = b"m" * 32, signer: bytes = b"s" * 32) -> None:
        self.keys = {SealTo.MEASUREMENT: measurement, SealTo.SIGNER: signer}

    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        return Secret(self.keys[to])


class World:
    """The machine below the process: its disk, its counter, and how many steps it still does."""

    def __init__(self, *, directory_sync: bool = True) -> None:
        self.directory_sync = directory_sync
        self.kill_at = self.fail_at = -1
        self.fail_next = ""
        self.names: list[str] = []
        self.dead = False
        self.count = 0
        self.files: dict[Path, list[bytes]] = {}  # name to inode, as programs see it
        self.kept: dict[Path, list[bytes]] = {}  # the names on the disk
        self.synced: dict[int, bytes] = {}  # by inode, what of it is on the disk
        self.pending: list[Callable[[dict[Path, list[bytes]]], None]] = []
        self.copies: list[bytes] = []
        self.open: dict[int, list[bytes]] = {}

    def step(self, name: str) -> None:
        """Do one step, unless the process is killed or the step fails here."""
        if self.dead:
            raise Killed
        if len(self.names) == self.kill_at:
            self.dead = True
            raise Killed
        self.names.append(name)
        if len(self.names) - 1 == self.fail_at or name == self.fail_next:
            self.fail_next = ""
            if name.startswith("counter"):
                raise CounterUnavailable(name)
            raise OSError(errno.EIO, name)

    def restart(self) -> None:
        """Start another process on what there is."""
        self.kill_at = self.fail_at = -1
        self.names, self.dead = [], False

    def power_cut(self, *, renamings: int, unsynced: float) -> None:
        """Keep what was synced, the first `renamings` pending names, and a part of the rest."""
        for change in self.pending[:renamings]:
            change(self.kept)
        for inode in {id(each): each for each in self.kept.values()}.values():
            whole, sure = inode[0], self.synced.get(id(inode), b"")
            inode[0] = whole if sure == whole else whole[: int(len(whole) * unsynced)]
        self.files = dict(self.kept)
        self.pending = []

    # The counter

    def read_counter(self) -> int:
        self.step("counter read")
        return self.count

    def advance_counter(self, to: int) -> None:
        self.step("counter half advanced")
        if not self.count < to < 2**63:
            raise SealError("a counter only goes up")
        self.count = to
        self.step("counter advanced")

    @property
    def counter(self) -> MonotonicCounter:
        return MonotonicCounter(read=self.read_counter, advance=self.advance_counter)

    def place(
        self, *, counter: MonotonicCounter | None = None, to: SealTo = SealTo.MEASUREMENT
    ) -> SealedPlace:
        return SealedPlace(
            path=PATH,
            enclave=FakeEnclave(),  # type: ignore[arg-type]
            label=LABEL,
            counter=counter or self.counter,
            to=to,
            disk=PlayedDisk(self),
        )

    @property
    def content(self) -> bytes | None:
        """The state's sealed bytes, as programs see them."""
        return self.files[PATH][0] if PATH in self.files else None

    def put_back(self, content: bytes) -> None:
        """Let the host put `content` there, for good."""
        inode = [content]
        self.synced[id(inode)] = content
        self.files[PATH] = self.kept[PATH] = inode


class PlayedDisk(Disk):
    """The disk of a `World`. A content is on it once synced; a name, once its directory was.

    As on ext4, syncing a new file also brings the names before it to the disk.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def _rename(self, change: Callable[[dict[Path, list[bytes]]], None]) -> None:
        change(self.world.files)
        self.world.pending.append(change)

    def read(self, path: Path, *, most: int) -> bytes | None:
        self.world.step("read")
        inode = self.world.files.get(path)
        return None if inode is None else inode[0][:most]

    def create(self, path: Path) -> int:
        self.world.step("create")
        inode = [b""]
        self._rename(lambda names: names.__setitem__(path, inode))
        self.world.open[id(inode)] = inode
        return id(inode)

    def write(self, descriptor: int, content: bytes) -> None:
        inode = self.world.open[descriptor]
        inode[0] = content[: len(content) // 2]
        self.world.step("half written")
        inode[0] = content
        self.world.step("written")

    def sync(self, descriptor: int) -> None:
        self.world.step("sync")
        inode = self.world.open[descriptor]
        self.world.synced[descriptor] = inode[0]
        if not self.world.directory_sync:
            self._flush()

    def close(self, descriptor: int) -> None:
        self.world.step("close")

    def rename(self, old: Path, new: Path) -> None:
        self.world.step("rename")
        inode = self.world.files[old]
        self.world.copies.append(inode[0])

        def change(names: dict[Path, list[bytes]]) -> None:
            names.pop(old, None)
            names[new] = inode

        self._rename(change)

    def sync_directory(self, directory: Path) -> None:
        self.world.step("sync directory")
        if self.world.directory_sync:
            self._flush()

    def remove(self, path: Path) -> None:
        self.world.step("remove")
        if path not in self.world.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._rename(lambda names: names.pop(path, None))

    def _flush(self) -> None:
        for change in self.world.pending:
            change(self.world.kept)
        self.world.pending = []
