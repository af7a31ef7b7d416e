"""How the load generator opens a connection: verified as our client verifies it, or not at all."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from wardian.serving.client.aio_links import verify_in_turn
from wardian.serving.client.connection import Destination
from wardian.serving.client.credentials import ClientCertificate
from wardian.serving.client.origin import Origin, handshake_failed
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
        self._destination = Destination(origin, policy, certificate=certificate)
        self._verifying = asyncio.Lock()  # one asks for evidence, the others profit

    async def __call__(self, unasked: Callable[[], None]) -> Link:
        """Return a connection whose other end the policy accepts.

        Raises:
            ConnectionLost: it cannot be opened, or broke.
            PolicyDenied, AttestationError: it leads to another front end.
        """
        origin = self._destination.origin
        try:
            transport, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(unasked=unasked),
                origin.host,
                origin.port,
                ssl=self._destination.context,
                server_hostname=origin.host,
            )
        except OSError as err:
            raise handshake_failed(origin, err) from err
        try:
            certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            protocol = self._destination.begin(certificate)
            ask = partial(link.ask, receive=protocol.receive)
            await verify_in_turn(protocol, ask, turn=self._verifying)
        except BaseException:
            transport.abort()
            raise
        link.fresh = lambda: protocol.reusable  # false once the lease of the other end is over
        return link
