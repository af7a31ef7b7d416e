"""A standby's life: find the active broker, prove what this is, take its state, keep it up."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wardian._internal import wire
from wardian._internal.agreed import Agreed
from wardian._internal.clock import UnixTime
from wardian._internal.files import replace_file
from wardian._internal.log import event
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.frames import FRAME_BYTES, FrameStream, connect
from wardian.broker.mesh.manifest import SignedManifest, manifest_digest, parse_manifest
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.recovery.backup import read_sealed_key
from wardian.broker.refusal import Refusal, RefusalCode
from wardian.broker.standby.channel import TAG_BYTES, Direction, Receiver, Sender
from wardian.broker.standby.course import Heard
from wardian.broker.standby.messages import STANDBY_RULE, TAKEN, Keys
from wardian.broker.standby.place import Following, StandbyPlace
from wardian.broker.standby.standby_session import KnownManifest, StandbySession
from wardian.broker.state.master_key import MasterKey
from wardian.broker.state.replica import Replica, install, kept_value, last_line
from wardian.broker.state.snapshot import MAX_PIECE_BYTES, Incoming, remove_state
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectionLost,
    FormatError,
    PolicyDenied,
    SealError,
    TransportError,
    WardianError,
)

log = logging.getLogger(__name__)

DIAL_S: Final = 2.0
CALLED_BACK_S: Final = 10.0
"""How long the active may take to reach this standby, once the state is in place."""
_ALIVE: Final = frozenset(
    {RefusalCode.DENIED, RefusalCode.EVIDENCE, RefusalCode.BUSY, RefusalCode.STALE}
)
"""What an active broker refuses with; one that cannot decide says `unavailable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What a standby is, and where it keeps the copy.

    Attributes:
        path: the file of the state.
        agreed: the measured `wardian.toml`.
        attest: makes this process's evidence over 64 bytes; called in another thread.
        tee: the kind of TEE, for the active's log.
        now: the clock, Unix seconds.
        load_key: returns the key of the state at `path`, None if there is none.
        keep_key: seals the key of the state to this enclave, on the disk when it returns.
    """

    path: Path
    agreed: Agreed
    attest: Callable[[bytes], Evidence]
    tee: str
    now: UnixTime
    load_key: Callable[[], MasterKey | None]
    keep_key: Callable[[MasterKey], None]


async def seek(peer: tuple[str, int], home: Home, place: StandbyPlace) -> Heard:
    """Follow the broker at `peer` if it is active, until it is lost; return what came of it.

    Args:
        peer: host and port, from the operator.
        home: what this standby is.
        place: where the active's commits come in.
    """
    session = StandbySession(
        wish="follow", agreed=home.agreed, nonce=secrets.token_bytes(NONCE_BYTES)
    )
    try:
        stream = await connect(peer, timeout_s=DIAL_S)
    except TransportError:
        return Heard.SILENT
    try:
        await stream.send(session.hello(tee=home.tee))
        raw = await stream.receive(most=FRAME_BYTES)
        refusal = read_refusal(raw)
        if refusal is not None:
            return _heard_in(refusal)
        return await _join(stream, raw, session, home, place)
    except TransportError:
        return Heard.SILENT
    finally:
        await stream.close()


def read_refusal(raw: bytes) -> Refusal | None:
    """Return the refusal in `raw`, None if it is something else."""
    with contextlib.suppress(FormatError):
        return wire.decode(raw, Refusal, what="refusal")
    return None


def _heard_in(refusal: Refusal) -> Heard:
    if refusal.rule == STANDBY_RULE or refusal.code not in _ALIVE:
        return Heard.NOT_ACTIVE
    event(log, "standby.refused", level=logging.WARNING, rule=refusal.rule)
    return Heard.REFUSES


async def _join(
    stream: FrameStream, raw: bytes, session: StandbySession, home: Home, place: StandbyPlace
) -> Heard:
    """Go on from message 2."""
    try:
        report_data = session.receive_challenge(raw, now=home.now(), known=known_manifest(home))
    except WardianError as err:  # whatever answers there, it is no broker to follow
        rule = err.rule if isinstance(err, PolicyDenied) else ""
        kind = type(err).__name__
        event(log, "standby.no-broker", level=logging.WARNING, error=kind, rule=rule)
        return Heard.NOT_ACTIVE
    try:
        evidence = await asyncio.to_thread(home.attest, report_data)
        await stream.send(session.proof(evidence))
        keys = session.receive_answer(await stream.receive(most=FRAME_BYTES))
        replica = await take_state(stream, keys, session, home)
    except PolicyDenied as err:
        event(log, "standby.refused", level=logging.WARNING, rule=err.rule)
        return Heard.REFUSES
    except WardianError as err:
        event(log, "standby.broke-off", level=logging.WARNING, error=type(err).__name__)
        return Heard.BROKE_OFF
    try:
        return await _follow(stream, keys, replica, place)
    finally:
        replica.close()


def known_manifest(home: Home) -> KnownManifest | None:
    """Return the manifest in the state that lies at `home`, newest or not; None if none opens.

    It was in force once, so no broker of the newest state is under one of before.
    """
    try:
        own = home.load_key()
        raw = own and kept_value(home.path, "manifest", "current", master_key=own)
        if not raw:
            return None
        signed = wire.decode(raw, SignedManifest, what="kept manifest")
        version = parse_manifest(signed).version
    except (SealError, FormatError, ConfigError):  # and so it says nothing
        return None
    return KnownManifest(version=version, digest=manifest_digest(signed))


async def take_state(
    stream: FrameStream, keys: Keys, session: StandbySession, home: Home
) -> Replica:
    """Return the copy of the state that comes over `stream`, once it is whole and in place.

    Raises:
        TransportError, AuthenticationFailed: the active is lost, or somebody else spoke.
        PolicyDenied: what lies here already is of another mesh (rule `standby-mesh`).
        SealError, FormatError, ConfigError: the state is not whole, or cannot be written here.
    """
    refuse_other_mesh(home, keys.master_key)
    receiver = Receiver(keys.session_key, Direction.STATE)
    own_key = read_sealed_key(home.path)  # it may hold more of the owners' keys than the one given
    path = home.path.with_name(f"{home.path.name}.incoming")
    incoming = Incoming(path)
    try:
        while not incoming.done:
            frame = await stream.receive(most=MAX_PIECE_BYTES + TAG_BYTES)
            incoming.take(_content(receiver, frame))
        incoming.close()
        replica, aside = install(
            path,
            home.path,
            master_key=keys.master_key,
            accept=lambda copy: _demand_ca(copy, session.ca_spki),
            keep_key=home.keep_key,
        )
    finally:
        incoming.close()
        remove_state(path)
    if aside is not None:
        if own_key:
            _keep_aside(aside.with_name(f"{aside.name}.master"), own_key)
        event(log, "standby.moved-aside", level=logging.WARNING, file=aside.name)
    return replica


def _keep_aside(place: Path, sealed_key: bytes) -> None:
    """Keep the key of a state that was moved aside: without it that state is lost after all.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        replace_file(place, sealed_key, sync=True)
    except OSError as err:
        raise ConfigError(f"{place}: cannot be written: {err.strerror}") from err


def _content(receiver: Receiver, frame: bytes) -> bytes:
    """Return what is in the next frame of the state.

    Raises:
        ConnectionLost: it is a refusal. Nobody signs those, and whoever can forge one can cut the
            connection as well.
        AuthenticationFailed: it is neither.
    """
    try:
        return receiver.content(frame)
    except AuthenticationFailed as err:
        if read_refusal(frame) is None:
            raise
        raise ConnectionLost("the other broker broke off while it sent its state") from err


def refuse_other_mesh(home: Home, master_key: MasterKey) -> None:
    """Return if what lies at home may give way to a state under `master_key`.

    Raises:
        PolicyDenied: it is of another mesh (rule `standby-mesh`): a host that leads a standby to
            another mesh's broker does not get its state thrown away.
    """
    own = home.load_key()
    if own is None or own.mesh == master_key.mesh:
        return
    try:
        there = last_line(home.path, master_key=own) is not None
    except SealError:
        there = True
    if there:
        raise PolicyDenied(
            f"{home.path}: the state here is of another mesh than the active broker's: move it "
            "away to follow that one",
            rule="standby-mesh",
        )


def _demand_ca(replica: Replica, ca_spki: bytes) -> None:
    """Refuse a state whose mesh CA is not the one that the active's evidence bound."""
    certificate = replica.get("ca", "certificate")
    if certificate is None or verify_ca_certificate(certificate) != ca_spki:
        raise AuthenticationFailed("the state is of another mesh CA than the broker that sent it")


async def _follow(stream: FrameStream, keys: Keys, replica: Replica, place: StandbyPlace) -> Heard:
    """Say that the state is in place, await the active's call, and follow it until it is lost."""
    following = Following(replica, session=keys.session, session_key=keys.session_key)
    place.following = following
    try:
        sender = Sender(keys.session_key, Direction.STATE_TAKEN)
        await stream.send(sender.frame(TAKEN))
        async with asyncio.timeout(CALLED_BACK_S):
            await following.begun.wait()
        event(log, "standby.follows", generation=replica.root.generation)
        await following.ended.wait()
    except (TimeoutError, TransportError):
        event(log, "standby.not-called", level=logging.WARNING)
    finally:
        place.following = None
    return Heard.FOLLOWED if following.begun.is_set() else Heard.COPIED
