"""A toy mesh's broker that serves clients of the KBS protocol, in one process, without a socket.

Owners' manifests, release, store and audit log are the real ones; so is the verifier, which gets
the collateral that these clients do not send out of a cache, as a broker does that is offline.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from simulators.kbs_client import RcarClient, TokenClient, Transport
from toy_mesh import PLATFORM, ToyBroker, ToyMesh, digest

from wardian.attestation.collateral.cache import CollateralCache
from wardian.attestation.collateral.signed import verify_collateral
from wardian.attestation.collateral.source import CachedCollateral, CollateralSource
from wardian.broker.desk import Office
from wardian.broker.kbs.answers import KbsRequest, KbsResponse
from wardian.broker.kbs.clerk import KbsClerk
from wardian.broker.kbs.sessions import KbsLimits
from wardian.broker.limits import ServiceLimits
from wardian.broker.state.audit import AuditEntry, AuditLine
from wardian.crypto.secret import Secret

GUEST = digest("a guest that is none of the mesh's roles")
VALUE = Secret(b"what the owner supplied")
GIVEN, KEPT_BACK, OTHERS = "given", "kept-back", "for-others"
NAME = f"default/secret/{GIVEN}"


def quote_of(measurement: bytes, *, platform=PLATFORM, **more) -> Callable[[bytes], bytes]:
    return lambda report_data: platform.quote(
        mr_enclave=measurement, report_data=report_data, **more
    )


def offline(directory: Path | None = None) -> CollateralSource:
    """Return a source that has the collateral of the toy mesh's platform, in files if asked to."""
    cache = CollateralCache(directory)
    cache.add(verify_collateral(PLATFORM.collateral(), root_sha256=PLATFORM.root_sha256))
    return CachedCollateral(cache)


def lines_of(mesh: ToyMesh, **changes):
    """One secret that a guest may have over this protocol, one that nobody may, one of others."""
    guest, worker = GUEST.hex(), mesh.measurements["worker"].hex()
    given = {"source": "supplied", "measurements": (guest,), "interop": True}
    return (
        mesh.secret(GIVEN, **(given | changes)),
        mesh.secret(KEPT_BACK, measurements=(guest, worker)),
        mesh.secret(OTHERS, measurements=(worker,), interop=True),
    )


def entries(broker: ToyBroker) -> list[AuditEntry]:
    from wardian._internal import wire

    raw = broker.store.audit_lines(limit=1000)
    return [wire.decode(line, AuditLine, what="audit line").entry for line in raw]


class ToyClerk:
    """The clerk of `broker`; each request runs an event loop of its own."""

    def __init__(
        self,
        broker: ToyBroker,
        *,
        source: CollateralSource | None = None,
        limits: KbsLimits | None = None,
        service: ServiceLimits | None = None,
    ) -> None:
        self.broker = broker
        self.ticks = 0.0
        self.office = Office(
            authority=broker.authority,
            attest=broker.attest,
            ticks=lambda: self.ticks,
            limits=service or ServiceLimits(),
            collateral=source or offline(),
        )
        self.clerk = KbsClerk(self.office, limits=limits)

    def close(self) -> None:
        self.office.close()

    def provision(self, version: int = 1, **changes) -> None:
        mesh = self.broker.mesh
        secrets = changes.pop("secrets", lines_of(mesh))
        signed = mesh.signed(version=version, secrets=secrets, **changes)
        keys, values = tuple(mesh.keys.values()), {GIVEN: VALUE}
        self.broker.provision(signed, keys=keys, secrets=values)

    def respond(self, request: KbsRequest, *, host: str = "192.0.2.1") -> KbsResponse:
        self.ticks += 2  # what was confirmed before is asked anew
        return asyncio.run(self.clerk.answer(request, host=host))

    def transport(self) -> Transport:
        def call(method, path, headers, body):
            named = {name.encode(): value.encode() for name, value in headers.items()}
            answer = self.respond(
                KbsRequest(method=method.encode(), target=path.encode(), headers=named, body=body)
            )
            lines = [line.partition(b": ") for line in answer.headers.split(b"\r\n") if line]
            return answer.status, [(n.decode(), v.decode()) for n, _, v in lines], answer.body

        return call

    def client(self, measurement: bytes = GUEST, **more) -> RcarClient:
        return RcarClient(transport=self.transport(), **({"quote": quote_of(measurement)} | more))

    def token_client(self, client: RcarClient) -> TokenClient:
        return TokenClient(transport=self.transport(), token=client.token, key=client.key)
