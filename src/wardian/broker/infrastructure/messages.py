"""What who runs Redis asks a broker for, and what it gets.

    who runs Redis                                              broker
       | QueueFilesRequest   certificate request                  |
       |--------------------------------------------------------->|
       | QueueFiles          certificate, CA, ACL file            |
       |<---------------------------------------------------------|

Nothing of the answer is secret: passwords stand in it as SHA-256 of 64 random digits. Nothing of it
is signed: who lies to the operator about Redis costs it the queue, and nobody anything else.
"""

from typing import Annotated, Final

import msgspec

from wardian._internal import wire
from wardian.broker.message_fields import Der

MAX_ACL_BYTES: Final = 16 * 1024


class QueueFilesRequest(
    wire.Message, frozen=True, tag_field="format", tag="wardian queue files request v1"
):
    """Ask for what a server of Redis shows, for the key and the names of the request."""

    csr: Der
    """PKCS #10, DER."""


class QueueFiles(wire.Message, frozen=True, tag_field="format", tag="wardian queue files v1"):
    """What makes a Redis one of this mesh's."""

    certificate: Der
    """Of the server, by the infrastructure CA."""
    infrastructure_ca: Der
    """Self-signed: by it Redis knows its clients, and they it."""
    users_acl: Annotated[str, msgspec.Meta(max_length=MAX_ACL_BYTES)]
    """The text of its ACL file."""
