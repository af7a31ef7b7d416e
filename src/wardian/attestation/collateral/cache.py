"""Collateral that is kept: in memory, and in a directory that nobody has to protect.

A file holds one model's collateral in the form in which `wardian attest` and the other end of a
connection read it. What a file says counts after its signatures verified, so whoever may write to
the directory can take collateral away and put older in its place, and nothing else. While the
process lives not even that: what was seen once is not gone back on. A file that is not genuine is
as good as none, and is overwritten by the next that is.
"""

import logging
import threading
from pathlib import Path
from typing import Final

from wardian._internal import settings
from wardian._internal.files import replace_file
from wardian._internal.log import event
from wardian.attestation.collateral.bundle import MAX_COLLATERAL_BYTES
from wardian.attestation.collateral.platform_model import PlatformModel
from wardian.attestation.collateral.signed import (
    SignedCollateral,
    newest,
    older,
    verify_collateral,
)
from wardian.attestation.collateral.term import Part
from wardian.errors import AttestationError, ConfigError, FormatError

log = logging.getLogger(__name__)

MAX_MODELS: Final = 128
"""How many models are remembered; there are fewer kinds of server processors."""


class CollateralCache:
    """The newest genuine statements about each model of platforms. May be used by many threads."""

    def __init__(self, directory: Path | None) -> None:
        """Keep collateral in `directory`, made when it is needed; None: in memory alone."""
        self._directory = directory
        self._lock = threading.Lock()
        self._seen: dict[PlatformModel, SignedCollateral] = {}

    def load(self, model: PlatformModel) -> SignedCollateral | None:
        """Return the newest that is known about `model`, ended or not; None if nothing is."""
        with self._lock:
            return self._held(model, self._read(model))

    def add(self, fresh: SignedCollateral) -> tuple[SignedCollateral, tuple[Part, ...]]:
        """Keep the newer statements of `fresh`.

        Returns:
            the newest of each statement, which is what is kept from now on, and which statements
            of `fresh` were older than what was kept.
        """
        with self._lock:
            written = self._read(fresh.model)
            held = self._held(fresh.model, written)
            kept = fresh if held is None else newest(held, fresh)
            self._remember(kept)
            if kept != written:
                self._write(kept)
            return kept, () if held is None else older(held, fresh)

    def _held(
        self, model: PlatformModel, written: SignedCollateral | None
    ) -> SignedCollateral | None:
        """Return the newest of what was seen and what is written, and remember it."""
        seen = self._seen.get(model)
        if written is None:
            return seen
        kept = written if seen is None else newest(seen, written)
        self._remember(kept)
        return kept

    def _remember(self, kept: SignedCollateral) -> None:
        self._seen.pop(kept.model, None)
        self._seen[kept.model] = kept
        while len(self._seen) > MAX_MODELS:
            del self._seen[next(iter(self._seen))]

    def _read(self, model: PlatformModel) -> SignedCollateral | None:
        """Return what the model's file says, if it is genuine and about the model."""
        if self._directory is None:
            return None
        try:
            path = self._directory / file_name(model)
            raw = settings.read(path, limit_bytes=MAX_COLLATERAL_BYTES)
            found = verify_collateral(raw, root_sha256=model.root_sha256)
        except (ConfigError, FormatError, AttestationError) as err:
            if not isinstance(err.__cause__, FileNotFoundError):
                _warn("collateral.file_refused", model, type(err).__name__)
            return None
        if found.model != model:
            _warn("collateral.file_refused", model, "AnotherModel")
            return None
        return found

    def _write(self, kept: SignedCollateral) -> None:
        """Write the model's file; without it the next start of a process asks anew, no more."""
        if self._directory is None:
            return
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._directory / file_name(kept.model), kept.encode())
        except OSError as err:
            _warn("collateral.not_written", kept.model, type(err).__name__)


def _warn(name: str, model: PlatformModel, error: str) -> None:
    event(log, name, level=logging.WARNING, model=str(model), error=error)


def file_name(model: PlatformModel) -> str:
    """Return the name of the file that holds the collateral of `model`.

    Eight bytes of the root's digest keep the files of simulations, whose platforms all look alike,
    apart; that a file is under the right root, its signatures say.
    """
    kind, root = model.kind.value.lower(), model.root_sha256[:8].hex()
    return f"{kind}-{model.fmspc.hex()}-{model.ca.value}-{root}.json"
