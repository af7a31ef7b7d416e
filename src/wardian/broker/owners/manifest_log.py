"""Every manifest that a broker ever had in force, told to anybody and verified by whoever asks.

There is no secret in a manifest. The broker signs nothing of the log: each manifest carries the
owners' signatures, and names the one before it. So the log is a chain that nobody can reorder, fill
up or cut in the middle; that its newest is the newest, a receipt or evidence shows, not the log.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian._internal.agreed import Mesh
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.mesh.chain import follow
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.broker.refusal import decode_or_raise
from wardian.broker.state.store import Place, Store

PLACE: Final = "manifest-history"
PAGE_BYTES: Final = 2 * 1024 * 1024
"""Where a page of the log ends, unless it is of one manifest: with room to spare in a frame."""

LAST_TIME: Final = 2**40
"""Unix seconds; no broker says a later one, whatever its host's clock does."""


class Edition(wire.Message, frozen=True):
    """A manifest that came into force, and when."""

    accepted: Annotated[int, msgspec.Meta(ge=0, le=LAST_TIME)]
    """Unix seconds by the broker's clock: its word, which nobody signs."""
    signed: SignedManifest


class ManifestLogRequest(
    wire.Message, frozen=True, tag_field="format", tag="wardian manifest log request v1"
):
    """Ask for the manifests of a higher version than `after`."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


class ManifestLog(wire.Message, frozen=True, tag_field="format", tag="wardian manifest log v1"):
    """Some of them, oldest first."""

    editions: tuple[Edition, ...]
    more: bool
    """Whether newer ones follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a log that was verified.

    Attributes:
        manifest: signed by as many owners as the one before it demands.
        accepted: Unix seconds at which it came into force; the broker's word.
    """

    manifest: VerifiedManifest
    accepted: int


def edition_change(signed: SignedManifest, *, version: int, now: int) -> dict[Place, bytes | None]:
    """Return the change that keeps `signed`, of `version`, in the log for good."""
    edition = Edition(accepted=min(max(now, 0), LAST_TIME), signed=signed)
    return {(PLACE, _key(version)): wire.encode(edition)}


def tell_log(store: Store, request: ManifestLogRequest) -> ManifestLog:
    """Return the next page of the log in `store`: at least one manifest, where there is one."""
    editions: list[Edition] = []
    room = PAGE_BYTES
    for raw in _after(store, request.after):
        room -= len(raw)
        if editions and room < 0:
            return ManifestLog(editions=tuple(editions), more=True)
        editions.append(wire.decode(raw, Edition, what="stored manifest"))
    return ManifestLog(editions=tuple(editions), more=False)


async def read_log(address: tuple[str, int], *, mesh: Mesh) -> tuple[Entry, ...]:
    """Return every manifest that the broker at `address` tells of, oldest first, as one chain.

    Args:
        address: host and port of whoever says to be the broker.
        mesh: `[mesh]` of `wardian.toml`: whose signatures count.

    Raises:
        TransportError: nobody answers there, or not as a broker does.
        FormatError, AuthenticationFailed, PolicyDenied: a manifest is not one that the owners
            signed, or does not follow the one before it.
    """
    entries: list[Entry] = []
    more = True
    while more:  # ends: each page goes on from the last, and owners signed whatever is in one
        last = entries[-1].manifest if entries else None
        page = await _ask(address, after=last.manifest.version if last else 0)
        for edition in page.editions:
            last = follow(edition.signed, current=last, mesh=mesh)
            entries.append(Entry(manifest=last, accepted=edition.accepted))
        more = page.more and bool(page.editions)
    return tuple(entries)


async def _ask(address: tuple[str, int], *, after: int) -> ManifestLog:
    stream = await connect(address)
    try:
        await stream.send(wire.encode(ManifestLogRequest(after=after)))
        answer = await stream.receive(most=FRAME_BYTES)
        return decode_or_raise(answer, ManifestLog, what="manifest log")
    finally:
        await stream.close()


def _after(store: Store, version: int) -> Iterator[bytes]:
    """Return the editions behind `version`, read one by one as they are asked for."""
    later = (key for key in store.keys(PLACE) if key > _key(version))
    return (raw for key in later if (raw := store.get(PLACE, key)) is not None)


def _key(version: int) -> str:
    """Return the store's key for `version`: all of one length, so that they sort by number."""
    return f"{version:016d}"
