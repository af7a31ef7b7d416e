"""Bytes in, bytes out: secrets, key derivation, signatures, HPKE, sealed files, queue messages.

The room knows nothing of sockets, TEEs or models. Everything that it seals is authenticated, and
everything that it refuses it refuses by raising.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardian.crypto.hpke import HpkePrivateKey, hpke_seal
    from wardian.crypto.message import QueueReceiver, QueueSender
    from wardian.crypto.recipients import BrokerKey
    from wardian.crypto.sealed_file import open_file, seal_file
    from wardian.crypto.sealed_header import Pin
    from wardian.crypto.secret import Secret
    from wardian.crypto.signing import SigningKey, verify_signature
    from wardian.crypto.tls_keys import TlsKey

__all__ = [
    "BrokerKey",
    "HpkePrivateKey",
    "Pin",
    "QueueReceiver",
    "QueueSender",
    "Secret",
    "SigningKey",
    "TlsKey",
    "hpke_seal",
    "open_file",
    "seal_file",
    "verify_signature",
]

_HOME = {
    "BrokerKey": "recipients",
    "HpkePrivateKey": "hpke",
    "Pin": "sealed_header",
    "QueueReceiver": "message",
    "QueueSender": "message",
    "Secret": "secret",
    "SigningKey": "signing",
    "TlsKey": "tls_keys",
    "hpke_seal": "hpke",
    "open_file": "sealed_file",
    "seal_file": "sealed_file",
    "verify_signature": "signing",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
