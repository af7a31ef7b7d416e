"""What the host tells a role: addresses and paths. All of it may be a lie.

The launcher hands it over unmeasured. A role uses it to find things; whether what it finds there is
genuine, evidence, signatures and seals decide.
"""

from typing import Annotated

import msgspec

from wardian._internal import wire
from wardian._internal.settings import Name

Address = tuple[str, Annotated[int, msgspec.Meta(ge=0, le=65535)]]
"""Host and port; port 0 where the role may choose and announces what it chose."""


class HostSettings(wire.Message, frozen=True, kw_only=True):
    """Untrusted. A role refuses to start when one that it needs is missing."""

    log_level: str = "info"
    listen: tuple[Address, ...] = ()
    """Broker and front end: where to listen, IP addresses; a broker has one."""
    names: tuple[str, ...] = ()
    """Front end: DNS names and IP addresses for its certificate."""
    broker: Address | None = None
    """Front end and worker: where the broker listens, an IP address."""
    queues: tuple[str, ...] = ()
    """A path, or `tcp:HOST:PORT`: a front end listens on the first, a worker dials all."""
    store: str | None = None
    """Broker: the file that holds its encrypted state."""
    model: Name | None = None
    """Worker: the model to serve, in the newest version that the manifest names."""
    sealed_models: dict[str, str] = msgspec.field(default_factory=dict)
    """Worker: where sealed files lie, by `NAME:VERSION`."""
    self_test: bool = False
    """Try what the role needs, report, and end. No key is asked for."""
