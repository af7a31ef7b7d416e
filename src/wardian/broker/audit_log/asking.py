"""Asking a broker for its log: pages, proofs, and who it is that answers."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from wardian._internal.clock import UnixTime
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.status import Status, read_status
from wardian.broker.transparency.client import read_proofs
from wardian.broker.transparency.heads import SignedHead, verify_head
from wardian.broker.transparency.proofs import ProofRequest, Proofs
from wardian.errors import AuthenticationFailed, PeerProtocolError, TransportError

PAUSE_S: Final = 0.5
"""Before a busy broker is asked again."""
ATTEMPTS: Final = 20

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose log is read.

    Attributes:
        address: host and port of the broker.
        ca_spki: the mesh CA's key (DER) that somebody vouches for: then all that is read comes from
            a broker of that CA, now, and nobody in between can hide what is new. None: nobody does,
            and whatever CA answers is taken.
        now: Unix seconds.
    """

    address: Address
    ca_spki: bytes | None
    now: UnixTime

    async def status(self, after: int | None = None) -> Status:
        """Return a status, its head verified, with the lines behind `after`, or the newest ones.

        A broker that is busy is asked again.

        Raises:
            TransportError: nobody answers there, or not as a broker, or as that broker, does.
            FormatError, AuthenticationFailed: it is the broker of another CA; or as `verify_shown`.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._status(after)
            except TransportError as err:
                if type(err) is not TransportError:  # it left, was slow, or is no broker
                    raise
                await asyncio.sleep(PAUSE_S)
        return await self._status(after)

    async def proofs(self, request: ProofRequest) -> Proofs:
        """Return the proofs that are asked for, **unverified**; see `read_proofs`."""
        return await read_proofs(self.address, request, ca_spki=self.ca_spki, now=self.now)

    async def lines(self, status: Status, *, start: int) -> AsyncIterator[bytes]:
        """Yield the raw lines after `start`, up to the head of `status` and no further.

        Args:
            status: of `self.status(start)`.
            start: the number of a line.
        """
        at, last, page = start, status.audit.count, status.lines
        while at < last:
            if not page:
                raise PeerProtocolError("the broker does not show its audit log to the end")
            for raw in page[: last - at]:
                yield raw
            at += min(len(page), last - at)
            if at < last:
                page = (await self.status(at)).lines

    async def _status(self, after: int | None) -> Status:
        status = await read_status(self.address, after=after, ca_spki=self.ca_spki, now=self.now)
        verify_shown(status)
        return status


def verify_shown(status: Status) -> SignedHead:
    """Return the head in a status, signed by the CA that the status names, of the same mesh.

    Args:
        status: untrusted; whose CA that is, `read_status` knows.

    Raises:
        FormatError: the CA's certificate does not parse.
        AuthenticationFailed: it did not sign the head, or the status is of another mesh or manifest
            than the head.
    """
    spki, head = verify_ca_certificate(status.mesh_ca), status.witnessed.head
    verify_head(head, ca_spki=spki, mesh=status.mesh)
    if status.manifest_digest != head.manifest:
        raise AuthenticationFailed("the status names another manifest than its audit head")
    return head
