"""Where clients of the KBS protocol reach a broker: HTTPS, on a port beside the broker's own.

By default there is no such port. Where there is one it is open from the start of the process to its
end. While this broker is not the active one it says so, under a certificate that nobody vouches
for: it has none of the mesh's yet.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

from wardian._internal.agreed import Limits
from wardian._internal.clock import unix_time
from wardian._internal.log import event
from wardian.broker.certificates import build_csr, parse_csr
from wardian.broker.kbs.answers import KbsRequest, KbsResponse, problem
from wardian.broker.kbs.clerk import KbsClerk
from wardian.broker.kbs.sessions import KbsLimits
from wardian.broker.lease import Lease, Moment, Standing
from wardian.broker.limits import peer_of
from wardian.broker.service import BrokerService
from wardian.broker.standby.identity import nobody
from wardian.crypto.jose import jwk_of, seal_jwe
from wardian.crypto.secret import Secret
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import ConfigError, FormatError
from wardian.roles.host import HostSettings
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.http.reader import read_one
from wardian.serving.http.server import Crowd, HttpServer
from wardian.serving.http.tls import TlsIdentity, server_context
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often it is looked whether the certificate is still the one to show."""
DRAIN_S: Final = 2.0
BUFFERED_BYTES: Final = 16 * 1024**2
"""Of bodies, over all connections: evidence has some ten kilobytes, and a megabyte at most."""
HTTP_LIMITS: Final = Limits(
    max_body_bytes=KbsLimits().evidence_bytes,
    header_timeout_s=5.0,
    body_timeout_s=15.0,
    idle_timeout_s=30.0,
    max_connections=128,
)
CROWD: Final = Crowd(most=32, of=peer_of)

_ACTIVE_ELSEWHERE: Final = problem(
    503, "Unavailable", "this broker stands by: ask the active one", headers=b"Retry-After: 5\r\n"
)

Respond: TypeAlias = Callable[[HttpResponse], None]
Answering: TypeAlias = Callable[[BrokerService], AbstractAsyncContextManager[None]]
"""Lets a broker answer, until the block is left."""


class KbsListener:
    """Listens from `start` to `aclose`; `answering` lets a broker answer meanwhile."""

    def __init__(
        self,
        *,
        names: Iterable[str],
        limits: KbsLimits | None = None,
        http: Limits = HTTP_LIMITS,
        crowd: Crowd = CROWD,
    ) -> None:
        """Be known by `names`.

        Args:
            names: DNS names and IP addresses for the certificate, 1 to 16.
            limits: what clients may cost at the desk; the defaults if None.
            http: what they may cost before that.
            crowd: how many connections one of them may have.

        Raises:
            ConfigError: a name is none, or there are too few or too many.
        """
        self._names, self._limits = tuple(names), limits or KbsLimits()
        _demand_names(self._names)
        self._active: tuple[KbsClerk, BrokerService] | None = None
        self._lease: Lease | None = None
        self._issuer = b""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = HttpServer(
            handler=self._take,
            limits=http,
            count_refusal=_refused,
            max_buffered_bytes=BUFFERED_BYTES,
            crowd=crowd,
        )
        self._server.use(nobody(now=unix_time()), tls_spki=b"")

    async def start(self, address: str, port: int) -> tuple[str, int]:
        """Listen, and return the address and port that it became.

        Raises:
            ConfigError: it cannot listen there.
        """
        ((host, bound),) = (await self._server.start(address, port))[:1]
        event(log, "kbs.listening", address=host, port=bound)
        return host, bound

    async def aclose(self) -> None:
        """Stop: what is being answered has a moment to end."""
        await self._server.stop(drain_s=DRAIN_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def answering(self, service: BrokerService) -> AsyncIterator[None]:
        """Answer with what `service` has in force, until the block is left; then stop listening.

        Raises:
            SealError: its state cannot be used, or cannot keep the key of tokens.
        """
        clerk = KbsClerk(service.office, limits=self._limits)
        self._renew(service)
        self._active = clerk, service
        self._spawn(self._stay(service))
        try:
            yield
        finally:
            await self.aclose()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, request: HttpRequest, respond: Respond) -> None:
        """Answer one request, at once or in a while."""
        if self._active is None:
            respond(_http(_ACTIVE_ELSEWHERE))
        else:
            self._spawn(self._answer(*self._active, request, respond))

    async def _answer(
        self, clerk: KbsClerk, service: BrokerService, request: HttpRequest, respond: Respond
    ) -> None:
        """Answer one request; a state that cannot be used any more ends the service."""
        asked = KbsRequest(
            method=request.method, target=request.target, headers=request.headers, body=request.body
        )
        response = await clerk.answer(asked, host=request.peer)
        if not service.authority.usable:
            service.in_doubt.set()
        respond(_http(response))

    async def _stay(self, service: BrokerService) -> None:
        """Be who the broker is under the manifest in force, in good time."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._renew(service)
            except Exception as err:  # noqa: BLE001 (half of the certificate's life is left)
                event(log, "kbs.bug", level=logging.ERROR, error=type(err).__name__)

    def _renew(self, service: BrokerService) -> None:
        """Show a fresh key and certificate, if it is time, or another manifest is in force."""
        authority = service.authority
        at = Moment(ticks=service.office.ticks(), now=authority.clock())
        issuer = authority.issuer.certificate
        lease = self._lease if issuer == self._issuer else None
        if lease is not None and lease.standing(at) is Standing.FRESH:
            return
        key, chain = authority.own_identity(self._names)
        identity = TlsIdentity(chain_pem=chain, key=key)
        self._server.use(server_context(identity), tls_spki=key.spki)
        self._server.retire({key.spki})
        life_s = authority.lease_s
        self._lease = Lease.begin(at, life_s=life_s, ends_at=at.now + life_s, chance=0)
        self._issuer = issuer


@contextlib.asynccontextmanager
async def listening(enclave: Enclave, host: HostSettings) -> AsyncIterator[Answering]:
    """Listen where `host` says, until the block is left, and announce it; nowhere by default.

    Raises:
        ConfigError: it cannot listen there, or not under these names.
    """
    if host.kbs_listen is None:
        yield lambda _: contextlib.nullcontext()
        return
    listener = KbsListener(names=host.names)
    address, port = await listener.start(*host.kbs_listen)
    try:
        enclave.announce("broker.kbs-listening", address=address, port=port)
        yield listener.answering
    finally:
        await listener.aclose()


def try_protocol(_: HostSettings) -> str:
    """Read one request and seal one answer, for the self-test."""
    request = read_one(b"GET /kbs/v0/resource/default/secret/x HTTP/1.1\r\nHost: x\r\n\r\n")
    sealed = seal_jwe(Secret(b"self-test"), recipient=jwk_of(TlsKey.generate().spki))
    return f"a request for {request.target.decode()}, an answer of {len(sealed)} parts"


def _demand_names(names: tuple[str, ...]) -> None:
    if not names:
        raise ConfigError("host settings: clients of the KBS protocol know a broker by its names")
    try:
        parse_csr(build_csr(TlsKey.generate(), names=names))
    except FormatError as err:
        raise ConfigError(f"host settings: the broker's names: {err}") from err


def _http(response: KbsResponse) -> HttpResponse:
    return HttpResponse(status=response.status, body=(response.body,), headers=response.headers)


def _refused(status: int) -> None:
    event(log, "kbs.http-refused", level=logging.DEBUG, status=status)
