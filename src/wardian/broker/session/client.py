"""Carries a session with the broker over a connection."""

import asyncio
from collections.abc import Callable

from wardian._internal.clock import UnixTime
from wardian.attestation.evidence import Evidence
from wardian.broker.certificates import BROKER, verify_peer_certificate
from wardian.broker.frames import FRAME_BYTES, FrameStream
from wardian.broker.session.asking import A
from wardian.broker.session.obtaining import G, ObtainingEnd


async def obtain_over(
    stream: FrameStream,
    session: ObtainingEnd[A, G],
    *,
    attest: Callable[[bytes], Evidence],
    tee: str,
    now: UnixTime,
) -> G:
    """Return what is released in the fresh `session`, and close `stream`.

    The broker is verified first: its evidence against the manifest, the manifest against the owners
    in the measured `wardian.toml`, and the connection's certificate against the CA that issues
    under that manifest. Only then is this process's own evidence made and sent.

    Args, Raises: as in `release.client.obtain`.
    """
    try:
        await stream.send(session.request(tee=tee))
        challenge = await stream.receive(most=FRAME_BYTES)
        report_data = session.receive_challenge(challenge, now=now())
        verify_peer_certificate(
            stream.peer_certificate(),
            issuer_spki=session.shown.issuer_spki,
            role=BROKER,
            manifest_digest=session.shown.manifest.digest,
            now=now(),
        )
        evidence = await asyncio.to_thread(attest, report_data)
        await stream.send(session.attestation(evidence))
        return session.receive_response(await stream.receive(most=FRAME_BYTES), now=now())
    finally:
        await stream.close()
