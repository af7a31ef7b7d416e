"""How the load generator opens a connection: verified as our client verifies it, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from wardian.errors import QueueFull
from wardian.serving.client.connection import (
    ClientConnection,
    Origin,
    VerifiedKeys,
    client_context,
    handshake_failed,
)
from wardian.serving.client.credentials import ClientCertificate
from wardian.serving.client.policy import ClientPolicy
from wardian.serving.loadgen.link import Link

Dial: TypeAlias = Callable[[Callable[[], None]], Awaitable[Link]]
"""Returns a new connection; given what to call for each answer that nobody asked for."""


class VerifiedDial:
    """Opens connections to a front end, and verifies each before a request can go over it."""

    def __init__(
        self,
        origin: Origin,
        policy: ClientPolicy,
        *,
        certificate: ClientCertificate | None = None,
    ) -> None:
        """Connect to nothing yet; later to `origin`, showing `certificate` if there is one."""
        self._origin = origin
        self._policy = policy
        self._context = client_context(certificate)
        self._keys = VerifiedKeys(policy)
        self._verifying = asyncio.Lock()  # one asks for evidence, the others profit

    async def __call__(self, unasked: Callable[[], None]) -> Link:
        """Return a connection whose other end the policy accepts.

        Raises:
            ConnectionLost: it cannot be opened, or broke.
            PolicyDenied, AttestationError: it leads to another front end.
        """
        origin = self._origin
        try:
            transport, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(unasked=unasked),
                origin.host,
                origin.port,
                ssl=self._context,
                server_hostname=origin.host,
            )
        except OSError as err:
            raise handshake_failed(origin, err) from err
        try:
            protocol = ClientConnection(
                origin,
                policy=self._policy,
                keys=self._keys,
                certificate=transport.get_extra_info("ssl_object").getpeercert(binary_form=True),
            )
            await self._verify(link, protocol)
        except BaseException:
            transport.abort()
            raise
        link.fresh = lambda: protocol.reusable  # false once the lease of the other end is over
        return link

    async def _verify(self, link: Link, protocol: ClientConnection) -> None:
        async with self._verifying:
            while not protocol.recheck():
                answer = await link.ask(protocol.evidence_request(), receive=protocol.receive)
                try:
                    protocol.verify(answer)
                except QueueFull as busy:
                    if not protocol.reusable:
                        raise
                    await asyncio.sleep(busy.retry_after_s)
