"""The model that goes straight from a job to be served: what the broker, and a line, says of it."""

import io

from wardian.broker.joint.record import ModelFile
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.sealed_stream import read_header
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.learning.shared.outputs import SERVING, SealedOutput


def describe_served(sealed: SealedOutput, content: bytes, *, key: Secret) -> ModelFile:
    """Return what the job tells the broker of the model, and what an owner's line says of it.

    Args:
        sealed: the output that is to be served.
        content: the file, which is that.
        key: 32 bytes, that it is sealed to.

    Raises:
        LocalProtocolError: it is given to somebody else, or the file is another one.
        FormatError: `content` is no sealed file.
    """
    header = read_header(io.BytesIO(content))
    if sealed.to != SERVING or header.digest != sealed.pin.header_digest:
        raise LocalProtocolError("this is not the file of the model that is served")
    return ModelFile(
        name=header.fields.name,
        version=header.fields.version,
        media_type=header.fields.media_type,
        pin=str(sealed.pin),
        key_id=BrokerKey(key).key_id.hex(),
        total_bytes=header.fields.total_bytes,
    )
