"""The new code's end of a handover: ask the old broker until it gave its state, for good."""

import asyncio
import secrets

from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.message_fields import NONCE_BYTES
from wardian.broker.standby.channel import Direction, Sender
from wardian.broker.standby.follower import DIAL_S, Home, known_manifest, take_state
from wardian.broker.standby.messages import TAKEN
from wardian.broker.standby.standby_session import StandbySession


async def take_over(peer: tuple[str, int], home: Home) -> None:
    """Return once the state of the broker at `peer` is in place, handed over to this code.

    Args:
        peer: host and port of the old broker, from the operator.
        home: what this broker is, and where it keeps its state.

    Raises:
        TransportError: the old broker cannot be reached, or was lost; ask again (retryable).
        PolicyDenied, AttestationError, AuthenticationFailed, FormatError: the old broker is not
            acceptable, or refuses; or what lies at home is of another mesh, or under a newer
            manifest.
        SealError, ConfigError: the state is not whole, or cannot be written here.
    """
    session = StandbySession(
        wish="take over", agreed=home.agreed, nonce=secrets.token_bytes(NONCE_BYTES)
    )
    stream = await connect(peer, timeout_s=DIAL_S)
    try:
        await stream.send(session.hello(tee=home.tee))
        challenge = await stream.receive(most=FRAME_BYTES)
        known = known_manifest(home)
        report_data = session.receive_challenge(challenge, now=home.now(), known=known)
        evidence = await asyncio.to_thread(home.attest, report_data)
        await stream.send(session.proof(evidence))
        keys = session.receive_answer(await stream.receive(most=FRAME_BYTES))
        replica = await take_state(stream, keys, session, home)
        replica.close()
        await stream.send(Sender(keys.session_key, Direction.STATE_TAKEN).frame(TAKEN))
    finally:
        await stream.close()
