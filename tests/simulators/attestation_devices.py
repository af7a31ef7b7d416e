"""What Gramine and Linux put below `/dev/attestation` and `/sys/kernel/config/tsm/report`.

A file on a disk cannot run code when it is read, and these files do. So a device stands where the
kernel stands: while it is entered, `os.open`, `read`, `write`, `close`, `mkdir` and `rmdir` of what
lies below its directory are its own, and everything else goes to the real ones. The code under test
is unchanged; had it another way to files than these calls, it would see empty ones.

The devices are as racy as the real ones: the report data and the quote are two files, and nothing
ties one to the other. With `yield_s` every call lets other threads run.
"""

import contextlib
import errno
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

QUOTE_BYTES = 8192
OUTBLOB_BYTES = 32 * 1024
INBLOB_BYTES = 64
CALLS = ("open", "read", "write", "close", "mkdir", "rmdir")


def fail(number: int, path: object = None) -> OSError:
    return OSError(number, os.strerror(number), None if path is None else str(path))


class OpenFile:
    """One opening of a pseudo-file: content that is made at some time, a position, writes."""

    def __init__(
        self,
        load: Callable[[], bytes] = bytes,
        save: Callable[[bytes], int] | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._content: bytes | None = None
        self._at = 0
        self.save = save
        self.release = release

    def read(self, size: int) -> bytes:
        if self._content is None:
            self._content = self._load()
        part = self._content[self._at : self._at + size]
        self._at += len(part)
        return part


class Device:
    """Takes the place of the kernel below `root` for as long as it is entered.

    Attributes:
        shortest: if given, no read hands out more bytes than that.
        yield_s: how long every call waits, for other threads to come between.
        fail_next: errors that the next readings of the signed file end with, first one first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shortest: int | None = None
        self.yield_s = 0.0
        self.fail_next: list[int] = []
        self._open_files: dict[int, OpenFile] = {}
        self._patches = contextlib.ExitStack()

    def __enter__(self):
        self._real = SimpleNamespace(**{name: getattr(os, name) for name in CALLS})
        for name in CALLS:
            self._patches.enter_context(mock.patch.object(os, name, getattr(self, f"_{name}")))
        return self

    def __exit__(self, *_):
        self._patches.close()
        assert not self._open_files, "a pseudo-file was left open"

    def open_file(self, path: Path, flags: int) -> OpenFile | None:
        """Return the pseudo-file at `path`, or None where a real file stands for it."""
        raise NotImplementedError

    def make_directory(self, path: Path) -> None:
        raise fail(errno.EACCES, path)

    def remove_directory(self, path: Path) -> None:
        raise fail(errno.EACCES, path)

    def yield_turn(self) -> None:
        if self.yield_s:
            time.sleep(self.yield_s)

    def injected(self) -> None:
        if self.fail_next:
            raise fail(self.fail_next.pop(0))

    def _ours(self, path: object) -> Path | None:
        if not isinstance(path, str | os.PathLike):
            return None
        found = Path(os.fspath(path))
        return found if self.root in found.parents else None

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        ours = self._ours(path)
        file = None if ours is None else self.open_file(ours, flags)
        if file is None:
            return self._real.open(path, flags, mode, dir_fd=dir_fd)
        descriptor = self._real.open(os.devnull, os.O_RDWR)  # a number that nobody else has
        self._open_files[descriptor] = file
        return descriptor

    def _read(self, descriptor, size):
        file = self._open_files.get(descriptor)
        if file is None:
            return self._real.read(descriptor, size)
        self.yield_turn()
        return file.read(size if self.shortest is None else min(size, self.shortest))

    def _write(self, descriptor, content):
        file = self._open_files.get(descriptor)
        if file is None:
            return self._real.write(descriptor, content)
        if file.save is None:
            raise fail(errno.EBADF)
        written = file.save(bytes(content))
        self.yield_turn()
        return written

    def _close(self, descriptor):
        file = self._open_files.pop(descriptor, None)
        self._real.close(descriptor)
        if file is not None:
            file.release()
            self.yield_turn()

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        ours = self._ours(path)
        if ours is None:
            self._real.mkdir(path, mode, dir_fd=dir_fd)
        else:
            self.make_directory(ours)

    def _rmdir(self, path, *, dir_fd=None):
        ours = self._ours(path)
        if ours is None:
            self._real.rmdir(path, dir_fd=dir_fd)
        else:
            self.remove_directory(ours)


class GramineDevice(Device):
    """`/dev/attestation` under gramine-sgx: `libos/src/fs/dev/attestation.c`.

    The report data is one buffer of the process, replaced and padded with zeros by each write; the
    quote is made when its file is opened, and so is the report, whose body is the quote's. Type,
    keys and the own target are plain files: they never change.
    """

    def __init__(
        self,
        root: Path,
        *,
        quote: Callable[[bytes], bytes],
        seal_key: bytes,
        signer_key: bytes = b"",
    ) -> None:
        super().__init__(root)
        self._quote = quote
        self.report_data = bytes(64)
        self.target = bytes(512)
        self.takes: int | None = None  # how much of a write is taken
        (root / "keys").mkdir(parents=True)
        (root / "keys" / "_sgx_mrenclave").write_bytes(seal_key)
        (root / "keys" / "_sgx_mrsigner").write_bytes(signer_key)
        (root / "attestation_type").write_bytes(b"dcap")
        (root / "my_target_info").write_bytes(b"this enclave".ljust(512, b"\0"))
        for name in ("user_report_data", "target_info", "report", "quote"):
            (root / name).touch()

    def open_file(self, path, flags):
        if not path.exists():
            return None
        match path.name:
            case "user_report_data":
                return OpenFile(save=self._save_report_data)
            case "target_info":
                return OpenFile(save=self._save_target)
            case "quote":
                self.yield_turn()
                self.injected()
                content = self._quote(self.report_data)
                return OpenFile(load=lambda: content)
            case "report":
                mine = self.target == (self.root / "my_target_info").read_bytes()
                report = self._quote(self.report_data)[48:432] + bytes(48)
                return OpenFile(load=lambda: report if mine else bytes(432))
        return None

    def _save_target(self, content: bytes) -> int:
        self.target = content[:512].ljust(512, b"\0")
        return len(content)

    def _save_report_data(self, content: bytes) -> int:
        taken = content if self.takes is None else content[: self.takes]
        self.report_data = taken[:64].ljust(64, b"\0")
        return len(taken)


class _Report:
    """The state of one report directory: `struct tsm_report_state` of the kernel."""

    def __init__(self) -> None:
        self.written = 0
        self.read = 0
        self.inblob = b""
        self.outblob: bytes | None = None


class TsmDevice(Device):
    """`/sys/kernel/config/tsm/report`: `drivers/virt/coco/guest/report.c`, `fs/configfs/file.c`.

    Attributes:
        provider: the name of the driver; None where there is none.
        ignore_writes: as after an error of the driver: a write is taken, closing it does nothing
            and tells nobody.
        meddle: called before each making of a quote, with the path of the report.
        generation: what that file holds, in place of the number of writes.
    """

    ATTRIBUTES = ("generation", "inblob", "outblob", "provider")

    def __init__(
        self,
        root: Path,
        *,
        quote: Callable[[bytes], bytes],
        provider: str | None = "tdx_guest",
    ) -> None:
        super().__init__(root)
        root.mkdir(parents=True)
        self._quote = quote
        self._reports: dict[Path, _Report] = {}
        self._semaphore = threading.Lock()
        self.provider = provider
        self.ignore_writes = False
        self.generation: bytes | None = None
        self.meddle: Callable[[Path], None] = lambda _: None

    def make_directory(self, path: Path) -> None:
        if self.provider is None:
            raise fail(errno.ENXIO, path)
        self._real.mkdir(path)
        self._reports[path] = _Report()
        for name in self.ATTRIBUTES:
            self._real.close(self._real.open(path / name, os.O_CREAT | os.O_WRONLY, 0o600))

    def remove_directory(self, path: Path) -> None:
        if path not in self._reports:
            raise fail(errno.ENOENT, path)
        for name in self.ATTRIBUTES:  # a user of configfs removes the directory alone
            (path / name).unlink()
        self._real.rmdir(path)
        del self._reports[path]

    def open_file(self, path, flags):
        report = self._reports.get(path.parent)
        if report is None:
            return None
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if writes != (path.name == "inblob"):
            raise fail(errno.EACCES, path)
        match path.name:
            case "inblob":
                return self._open_inblob(report)
            case "outblob":
                return OpenFile(load=lambda: self._load_outblob(report, path.parent))
            case "generation":
                return OpenFile(load=lambda: self.generation or b"%d\n" % report.written)
            case "provider":
                return OpenFile(load=lambda: b"%s\n" % str(self.provider).encode())
        return None

    def written(self, entry: Path) -> int:
        return self._reports[entry].written

    def write_inblob(self, entry: Path, content: bytes) -> None:
        """Write as another process of the guest would."""
        report = self._reports[entry]
        report.written += 1
        report.inblob = content

    def _open_inblob(self, report: _Report) -> OpenFile:
        pending = bytearray()

        def save(content: bytes) -> int:
            if len(pending) + len(content) > INBLOB_BYTES:
                raise fail(errno.EFBIG)
            pending.extend(content)
            return len(content)

        def release() -> None:
            with self._semaphore:
                if not self.ignore_writes:
                    report.written += 1
                    report.inblob = bytes(pending)

        return OpenFile(save=save, release=release)

    def _load_outblob(self, report: _Report, entry: Path) -> bytes:
        self.injected()
        self.meddle(entry)
        with self._semaphore:
            if not report.inblob:
                raise fail(errno.EINVAL)
            if report.outblob is None or report.read != report.written:
                report.outblob = self._quote(report.inblob)
                report.read = report.written
            if len(report.outblob) > OUTBLOB_BYTES:
                raise fail(errno.EFBIG)
            return report.outblob


def tdx_quote(report_data: bytes, *, tail: bytes, mr_td: bytes = bytes(48)) -> bytes:
    """Return the shape of a TDX quote, version 4: header, TD report body, signature data.

    Source: Intel TDX DCAP Quoting Library API, appendix A.3. Nothing here is signed.
    """
    header = struct.pack("<HHIHH16s20s", 4, 2, 0x81, 0, 0, bytes(16), bytes(20))
    body = bytes(136) + mr_td + bytes(336) + report_data
    assert len(body) == 584
    return header + body + struct.pack("<I", len(tail)) + tail
