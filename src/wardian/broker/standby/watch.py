"""What an active broker does about its standby beside commits: it beats, and notes a loss."""

import asyncio
import contextlib
from typing import Final

from wardian.broker.authority import Authority
from wardian.broker.standby.standbys import Standbys
from wardian.errors import CounterUnavailable

BEAT_S: Final = 1.0


_LOST: Final = "lost"
_MANIFEST: Final = "manifest"


async def watch(standbys: Standbys, authority: Authority, *, beat_s: float = BEAT_S) -> None:
    """Beat until cancelled; write an audit line when a standby is not kept up any more.

    A standby was admitted by the manifest of then. Under a new one it has to show again what it is,
    or its copy is not the newest from the line on that says so: it may be on a platform, or of
    code, that the owners withdrew.

    Raises:
        SealError: the line cannot be made durable: this broker is not the newest, or in doubt.
    """
    lost = asyncio.Event()
    standbys.on_lost = lost.set  # in the middle of a commit: the line waits for the next
    rule = ""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await lost.wait()
        standbys.beat()
        rule = _LOST if lost.is_set() else rule
        if standbys.kept_up and standbys.under != authority.manifest_digest:
            standbys.close()
            rule = _MANIFEST
        lost.clear()
        if rule:
            try:
                line = authority.entry(event="standby", outcome="refused", rule=rule)
                authority.record([line])
            except CounterUnavailable:
                if not authority.usable:
                    raise
                continue  # nothing was begun: the line is due at the next beat
            rule = ""
