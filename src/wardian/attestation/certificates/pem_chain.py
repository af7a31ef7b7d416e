"""A chain of PEM certificates in the one form that quoting enclaves and vendors' services write.

RFC 7468, section 3, lets a reader skip text around certificates, blanks, and line ends of any kind.
No signature covers any of it, so all of it is refused here: only "stricttextualmsg" is read.
"""

import base64
import binascii
import re

from wardian.errors import FormatError

_LINE = 64
_BOUNDARY = b"-----%s CERTIFICATE-----\n"
_PEM = re.compile(_BOUNDARY % b"BEGIN" + rb"([A-Za-z0-9+/=\n]{1,8192})" + _BOUNDARY % b"END")


def parse_pem_chain(pem: bytes, *, count: int, what: str) -> tuple[bytes, ...]:
    """Return the DER certificates in `pem`, in their order: leaf first, root last.

    Args:
        pem: the text, untrusted: lines of 64 characters, shorter at the end of a certificate, each
            ended by LF, and nothing else.
        count: how many certificates there have to be.
        what: the name of the thing for the error message, for example "quote".

    Raises:
        FormatError: another form, or another number of certificates.
    """
    try:
        chain = tuple(binascii.a2b_base64(body) for body in _PEM.findall(pem))
    except binascii.Error as err:
        raise FormatError(f"{what}: a certificate in the chain is not valid base64") from err
    if len(chain) != count:
        raise FormatError(f"{what}: the chain has {len(chain)} certificates, {count} expected")
    # Written anew it has to be the same: nothing around the certificates, and no second form.
    if render_pem_chain(chain) != pem:
        raise FormatError(f"{what}: the chain is not PEM certificates in lines of 64 and LF alone")
    return chain


def render_pem_chain(chain: tuple[bytes, ...]) -> bytes:
    """Return the one text that `parse_pem_chain` reads as `chain`."""
    return b"".join(map(_render, chain))


def _render(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = b"".join(text[at : at + _LINE] + b"\n" for at in range(0, len(text), _LINE))
    return _BOUNDARY % b"BEGIN" + lines + _BOUNDARY % b"END"
