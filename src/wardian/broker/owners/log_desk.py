"""The desk that tells anybody every manifest that was ever in force."""

from typing_extensions import override

from wardian._internal import wire
from wardian.broker.desk import Desk, Office
from wardian.broker.frames import FrameStream
from wardian.broker.limits import Bucket, Place
from wardian.broker.owners.manifest_log import ManifestLogRequest, tell_log


class ManifestLogDesk(Desk[ManifestLogRequest]):
    """Answers who asks; nothing secret is in it."""

    __slots__ = ("_office", "_pages")

    def __init__(self, office: Office) -> None:
        """Tell what the store of `office` has."""
        self._office = office
        limits = office.limits
        self._pages = Bucket(
            per_s=limits.statuses_per_s, burst=limits.status_burst, now=office.ticks()
        )

    @override
    async def serve(
        self, stream: FrameStream, place: Place, raw: bytes, first: ManifestLogRequest
    ) -> None:
        """Answer with a page of the log, if this broker's state is still the newest."""
        self._office.spend(self._pages, "manifests than it can tell")
        store = self._office.authority.store
        store.confirm()
        await stream.send(wire.encode(tell_log(store, first)))
