"""An owner visits the broker: with a manifest and what belongs to it, an order, or a consent."""

import secrets
from collections.abc import Callable

from wardian._internal.clock import UnixTime
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.jobs.signing import SignedPolicy
from wardian.broker.mesh.manifest import SignedManifest
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.owners.goods import Goods
from wardian.broker.owners.protocol import OrderKind
from wardian.broker.owners.session import Demands, OwnerSession, Provisioned
from wardian.crypto.signing import Signer


async def provision(
    address: tuple[str, int],
    *,
    owner: Signer,
    demands: Demands,
    manifest: SignedManifest,
    goods: Goods,
    recovery_public: bytes | None = None,
    now: UnixTime,
) -> Provisioned:
    """Put `manifest` and `goods` in force at the broker, once it is what `demands` says.

    Args:
        address: host and port of the broker.
        owner: one of the owners in `wardian.toml`.
        demands: what the broker must be.
        manifest: signed by enough owners.
        goods: keys and secrets of this owner.
        recovery_public: this owner's X25519 key for recovery, 32 bytes, if it is to be set.
        now: the clock, Unix seconds.

    Raises:
        TransportError: nobody answers, or the broker is busy; `retryable` says whether to retry.
        AttestationError, PolicyDenied, AuthenticationFailed, FormatError: the broker is not
            acceptable, or it refuses; nothing was given to it unless it was verified.
        ConfigError: more than fits into one visit.
    """
    return await _visit(
        address,
        owner=owner,
        manifest=manifest,
        bring=lambda session, raw: session.provision(
            raw,
            demands=demands,
            manifest=manifest,
            goods=goods,
            recovery_public=recovery_public,
            now=now(),
        ),
    )


async def order(
    address: tuple[str, int],
    *,
    owner: Signer,
    demands: Demands,
    kind: OrderKind,
    time: int | None = None,
    now: UnixTime,
) -> Provisioned:
    """Have the broker do something at once, once it is what `demands` says.

    Args:
        address: host and port of the broker.
        owner: one of the owners in `wardian.toml`; one is enough.
        demands: what the broker must be.
        kind: what is to be done.
        time: of a beacon, Unix seconds; else None.
        now: the clock, Unix seconds, for the validity of the broker's collateral.

    Raises:
        TransportError, AttestationError, PolicyDenied, AuthenticationFailed, FormatError: as in
            `provision`; the broker also refuses where no manifest is in force.
    """
    return await _visit(
        address,
        owner=owner,
        manifest=None,
        bring=lambda session, raw: session.order(
            raw, demands=demands, kind=kind, time=time, now=now()
        ),
    )


async def consent(
    address: tuple[str, int],
    *,
    owner: Signer,
    demands: Demands,
    policy: SignedPolicy,
    key: Goods,
    now: UnixTime,
) -> Provisioned:
    """Put a policy over a table of `owner` in force at the broker, with the table's key.

    Args:
        address: host and port of the broker.
        owner: one of the owners in `wardian.toml`, who signed the policy.
        demands: what the broker must be.
        policy: about one table.
        key: that opens the table; nothing where the broker has it.
        now: the clock, Unix seconds, for the validity of the broker's collateral.

    Raises:
        TransportError, AttestationError, PolicyDenied, AuthenticationFailed, FormatError: as in
            `provision`; the broker also refuses where no manifest is in force.
    """
    return await _visit(
        address,
        owner=owner,
        manifest=None,
        policy=policy,
        bring=lambda session, raw: session.consent(
            raw, demands=demands, policy=policy, key=key, now=now()
        ),
    )


async def _visit(
    address: tuple[str, int],
    *,
    owner: Signer,
    manifest: SignedManifest | None,
    policy: SignedPolicy | None = None,
    bring: Callable[[OwnerSession, bytes], bytes],
) -> Provisioned:
    """Carry out one visit, whose message 3 `bring` makes from message 2."""
    session = OwnerSession(owner=owner, nonce=secrets.token_bytes(NONCE_BYTES))
    stream = await connect(address)
    try:
        await stream.send(session.hello())
        await stream.send(bring(session, await stream.receive(most=FRAME_BYTES)))
        answer = await stream.receive(most=FRAME_BYTES)
        return session.receipt(answer, manifest=manifest, policy=policy)
    finally:
        await stream.close()
