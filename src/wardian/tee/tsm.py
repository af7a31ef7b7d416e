"""A TDX guest as Linux shows it to its processes: reports below `/sys/kernel/config/tsm/report`.

A report is a directory that its user makes. What is written to `inblob` comes back, signed, from
`outblob`; `generation` counts the writes, so that a reader can tell that somebody else wrote.

The verifier accepts this evidence where a policy names the guest, with the collateral that the
kernel does not have: whoever appraises it has to get that elsewhere.

Source: Linux, `Documentation/ABI/testing/configfs-tsm-report` (formerly `configfs-tsm`),
`drivers/virt/coco/guest/report.c` and `drivers/virt/coco/tdx-guest/tdx-guest.c`.
"""

import contextlib
import errno
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from wardian._internal import wire
from wardian._internal.log import Field
from wardian.attestation.evidence import REPORT_DATA_BYTES, Evidence
from wardian.crypto.secret import Secret
from wardian.errors import (
    ConfigError,
    ConnectionLost,
    FormatError,
    LocalProtocolError,
    SealError,
    Timeout,
)
from wardian.tee.backend import Enclave, SealTo
from wardian.tee.gramine import demand_bound, read_device, write_device

_LOG = logging.getLogger(__name__)
_PROVIDER = "tdx_guest"
_MAX_ATTRIBUTE_BYTES = 4096
_MAX_QUOTE_BYTES = 8192  # what is longer is no quote but a CBOR Web Token (DICE), says the ABI
_REPORT_DATA_AT = {  # by version, key type ECDSA P-256 and TEE type TDX
    bytes.fromhex("0400020081000000"): 48 + 520,  # header, then REPORTDATA in the TD report body
    bytes.fromhex("0500020081000000"): 48 + 6 + 520,  # before the body, its type and size
}
_ATTEMPTS = 5
_PAUSE_S = 1.0
"""Between two attempts; the kernel itself looks once a second whether the quote is there."""
_AGAIN = frozenset({errno.EBUSY, errno.EINTR})
"""An earlier request is still with the host, or a signal came: the same request may succeed."""


class TsmEnclave(Enclave):
    """A process in an Intel TDX guest.

    It can quote, and the kernel gives it no collateral. It has neither sealing keys nor counters.
    What it measures is the guest's image, not this process: everybody who is root in the guest has
    the same evidence.
    """

    def __init__(
        self,
        reports: Path = Path("/sys/kernel/config/tsm/report"),
        files: Path = Path("/etc/wardian"),
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make this process's report directory, which is removed when the process ends.

        Args:
            reports: the kernel's directory of reports; only root may write there.
            files: where `wardian.toml` and `host.json` lie. The first has to be part of the
                guest's measured image; nothing here can tell whether it is.
            pause: waits so many seconds before a quote is asked for again.

        Raises:
            ConfigError: this is no TDX guest, or this process may not ask for reports.
        """
        self._files = files
        self._pause = pause
        self._lock = threading.Lock()
        self._entry = _make_entry(reports)
        self._removal = weakref.finalize(self, _remove, self._entry)
        try:
            _demand_tdx(self._entry)
        except ConfigError:
            self._removal()
            raise

    @property
    @override
    def name(self) -> str:
        return "tsm"

    @property
    @override
    def simulated(self) -> bool:
        return False

    @override
    def evidence(self, report_data: bytes) -> Evidence:
        """Return a TDX quote, version 4, over `report_data` (64 bytes). Takes a second and more.

        Raises:
            LocalProtocolError: other than 64 bytes.
            ConfigError: the kernel does not take the report data.
            ConnectionLost: the host gave no quote.
            Timeout: it gave none in time, or was busy, or others wrote to our report each time.
            FormatError: it gave something that no TDX quote of version 4 is.
            EvidenceInvalid: the quote is over other report data.
        """
        if len(report_data) != REPORT_DATA_BYTES:
            raise LocalProtocolError(f"report data has {REPORT_DATA_BYTES} bytes")
        with self._lock:  # writing and reading are one operation
            quote = self._ask(report_data)
        at = _REPORT_DATA_AT.get(quote[:8])
        if at is None:
            raise FormatError("tsm: the report is no TDX quote of version 4 or 5")
        demand_bound(quote, report_data, at=at, what="tsm")
        return Evidence(quote=quote, collateral=b"")

    @override
    def sealing_key(self, to: SealTo = SealTo.MEASUREMENT) -> Secret:
        raise SealError(
            "tsm: a TDX guest has no sealing key; its state needs a key from the broker"
        )

    @override
    def agreed_config(self) -> bytes:
        return _read(self._files / "wardian.toml", limit=wire.MAX_MESSAGE_BYTES)

    @override
    def host_settings(self) -> bytes:
        return _read(self._files / "host.json", limit=wire.MAX_MESSAGE_BYTES)

    @override
    def announce(self, event: str, **fields: Field) -> None:
        _LOG.info(event, extra={"fields": fields})

    @override
    def read_counter(self, name: str) -> int:
        raise SealError(_NO_COUNTERS)

    @override
    def advance_counter(self, name: str, to: int) -> None:
        raise SealError(_NO_COUNTERS)

    def _ask(self, report_data: bytes) -> bytes:
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._pause(_PAUSE_S)
            try:
                quote = self._ask_once(report_data)
            except OSError as err:
                if err.errno not in _AGAIN:
                    raise _no_quote(err) from err
                quote = None
            if quote is not None:
                return quote
        raise Timeout(f"tsm: no quote after {_ATTEMPTS} attempts: the host or the report is busy")

    def _ask_once(self, report_data: bytes) -> bytes | None:
        """Return what the kernel made of `report_data`, or None if another write came between.

        The kernel takes `inblob` when it is closed, and tells nobody if it then refuses it: only
        the count of writes says whether it did.
        """
        before = _generation(self._entry)
        write_device(self._entry / "inblob", report_data)
        report = read_device(self._entry / "outblob", limit=_MAX_QUOTE_BYTES)
        return report if _generation(self._entry) == before + 1 else None


_NO_COUNTERS = "tsm: no monotonic counter: the host could set any disk of a guest back"


def _make_entry(reports: Path) -> Path:
    entry = reports / f"wardian-{os.getpid()}-{secrets.token_hex(8)}"
    try:
        entry.mkdir()
    except OSError as err:
        raise ConfigError(
            f"tsm: no report can be made in {reports}: {err.strerror}; this needs Linux 6.7 in a "
            "TDX guest, configfs mounted, the module tdx_guest, and root"
        ) from err
    return entry


def _remove(entry: Path) -> None:
    with contextlib.suppress(OSError):  # the process ends; a report left behind says nothing
        entry.rmdir()


def _demand_tdx(entry: Path) -> None:
    provider = _read(entry / "provider", limit=_MAX_ATTRIBUTE_BYTES).strip()
    if provider == b"sev_guest":
        raise ConfigError(
            "tsm: this is an AMD SEV-SNP guest (sev_guest); its reports are of a format that "
            "Wardian's verifier does not read yet"
        )
    if provider != _PROVIDER.encode():
        raise ConfigError(f"tsm: reports are not from {_PROVIDER}, the only one that is supported")


def _generation(entry: Path) -> int:
    """Return how often anybody wrote to this report.

    Raises:
        OSError: it cannot be read, or is no number.
    """
    text = read_device(entry / "generation", limit=_MAX_ATTRIBUTE_BYTES).strip()
    if not text.isdigit():
        raise OSError(errno.EIO, "the generation is no number")
    return int(text)


def _no_quote(err: OSError) -> ConfigError | ConnectionLost | FormatError | Timeout:
    """Return what `err` means; see `tdx_report_new` of the kernel."""
    match err.errno:
        case errno.EFBIG:
            return FormatError(f"tsm: the report has more than {_MAX_QUOTE_BYTES} bytes")
        case errno.ETIMEDOUT:
            return Timeout("tsm: the host made no quote in time")
        case errno.EIO:
            return ConnectionLost("tsm: the host made no quote; does its quote service run?")
        case _:
            return ConfigError(f"tsm: no quote: {err.strerror}")


def _read(path: Path, *, limit: int) -> bytes:
    try:
        return read_device(path, limit=limit)
    except OSError as err:
        raise ConfigError(f"tsm: {path} cannot be read: {err.strerror}") from err
