"""The front end's TLS: version 1.3 alone, no resumption, no early data.

A client verifies evidence about the key of each connection before it sends data. A resumed
connection proves no certificate and early data comes before any proof, so neither exists here
(TRUST T20).

Client certificates are asked for only where tenants have some. No authority vouches for them: each
is its own anchor, also where it is not self-signed (`X509_V_FLAG_PARTIAL_CHAIN`), and the names of
those that are accepted are told to nobody. One that is accepted still says nothing by itself: who
has it is looked up by its digest with each request.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from wardian.crypto.tls_keys import ServerKey, load_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsIdentity:
    """Who the front end is on the wire; replaced as a whole when its certificate is renewed.

    Attributes:
        chain_pem: its certificate first, then those up to the mesh CA, PEM. Under an operator's
            keystore: then those that are in it.
        key: the certificate's private key.
    """

    chain_pem: bytes
    key: ServerKey


def server_context(
    identity: TlsIdentity,
    *,
    protocols: Sequence[str] = ("http/1.1",),
    clients: Sequence[bytes] = (),
) -> ssl.SSLContext:
    """Return the TLS context of a front end that is `identity`.

    Args:
        identity: chain and key.
        protocols: what is spoken, by ALPN names, the preferred one first.
        clients: certificates, DER, of which a client may show one. With any, a client that shows
            another one is refused in the handshake; one that shows none is not.

    Raises:
        FormatError: the chain does not parse or is of another key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # no ticket, no resumption; OpenSSL accepts early data only with one
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_NONE
    if clients:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=b"".join(clients))
    context.set_alpn_protocols(list(protocols))
    load_identity(context, identity.chain_pem, identity.key)
    return context
