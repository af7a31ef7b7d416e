"""A role tries what it needs, without a broker and without a key: does it start, and does it work?

It answers whether a manifest names every file that its role opens, on any machine, and it is all
that a role can do under gramine-direct, which cannot attest. `make trace` runs it under strace.
"""

import asyncio
import hashlib
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from wardian.attestation.evidence import REPORT_DATA_BYTES
from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
from wardian.crypto.signing import SigningKey, verify_signature
from wardian.errors import AttestationError, ConfigError, JobFailed, SealError
from wardian.roles.host import HostSettings
from wardian.tee.backend import Enclave

Trials: TypeAlias = Mapping[str, Callable[[HostSettings], str]]
"""By name, what to try; each returns a few words on what it found, or raises."""


def run(enclave: Enclave, host: HostSettings, trials: Trials) -> None:
    """Try what every role needs, then `trials`; announce each with what it found.

    Raises:
        WardianError: the first that failed.
    """
    everybody: Trials = {
        "evidence": lambda _: _evidence(enclave),
        "sealing": lambda _: _sealing(enclave),
        "keys": _keys,
        "threads": _threads,
        "tls": _tls,
    }
    for name, trial in {**everybody, **trials}.items():
        enclave.announce("self-test", trial=name, found=trial(host))
    enclave.announce("self-test.passed", tee=enclave.name, simulated=enclave.simulated)


def _evidence(enclave: Enclave) -> str:
    try:
        evidence = enclave.evidence(hashlib.sha512(b"self-test").digest()[:REPORT_DATA_BYTES])
    except (ConfigError, AttestationError) as err:
        return f"none: {err}"
    return f"a quote of {len(evidence.quote)} bytes"


def _sealing(enclave: Enclave) -> str:
    try:
        enclave.sealing_key()
    except (ConfigError, SealError) as err:
        return f"none: {err}"
    return "a key of this measurement"


def _keys(_: HostSettings) -> str:
    private, text = HpkePrivateKey.generate(), b"self-test"
    if private.open(hpke_seal(private.public, text, info=b""), info=b"") != text:
        raise JobFailed("self-test: HPKE does not give back what was sealed")
    key = SigningKey.generate()
    verify_signature(key.public, key.sign(text), text)
    return "HPKE and signatures"


def _threads(_: HostSettings) -> str:
    async def from_a_thread() -> int:
        return await asyncio.to_thread(threading.get_ident)

    if asyncio.run(from_a_thread()) == threading.get_ident():
        raise JobFailed("self-test: no second thread")
    return "a second thread"


def _tls(_: HostSettings) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return ssl.OPENSSL_VERSION
