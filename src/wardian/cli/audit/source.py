"""Which broker's log, and who vouches for the key that signs its heads."""

import contextlib
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from wardian._internal.clock import UnixTime
from wardian.broker.audit_log.asking import Asked
from wardian.broker.certificates import verify_ca_certificate
from wardian.cli.state import StateDir
from wardian.errors import AuthenticationFailed, ConfigError, FormatError, PolicyDenied

MAX_PORT: Final = 65535
MAX_PEM_BYTES: Final = 64 * 1024
MEMORY: Final = "audit-memory.json"
"""In a state directory: what was seen of its mesh's log."""
DEFAULT_STATE: Final = Path(".wardian")
file = click.Path(path_type=Path, dir_okay=False)
existing = click.Path(path_type=Path, dir_okay=False, exists=True)
_ADDRESS: Final = re.compile(r"\A\[?([^\[\]\s]+?)\]?:([0-9]{1,5})\Z")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a log comes from.

    Attributes:
        broker: as given, HOST:PORT; None: that of the state directory.
        state: a state directory of this machine; None where a broker was named.
        ca: a file with the mesh CA's certificate, PEM; None: none is there.
    """

    broker: str | None
    state: Path | None
    ca: Path | None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the broker.

        Raises:
            ConfigError: no such address, or no broker wrote one.
        """
        if self.broker is not None:
            return parse_address(self.broker)
        written = StateDir(self._state()).broker_address
        try:
            return parse_address(written.read_text().strip())
        except OSError as err:
            raise ConfigError(
                f"{written}: no broker wrote its address here; name one with --broker HOST:PORT"
            ) from err

    @property
    def ca_spki(self) -> bytes | None:
        """The mesh CA's key (DER) that the file vouches for; None without a file."""
        return None if self.ca is None else load_ca(self.ca)

    def asked(self, now: UnixTime) -> Asked:
        """Return the broker to ask, known by the CA's key; `now` tells Unix seconds.

        Raises:
            ConfigError: no such address, or the file holds no CA.
        """
        return Asked(address=self.address, ca_spki=self.ca_spki, now=now)

    @property
    def ca_said(self) -> str:
        """How the key that signs heads is known, for people."""
        if self.ca is not None:
            return f"signed by the mesh CA in {self.ca}"
        return "UNVERIFIED: nobody vouches for the CA that signed it; give --ca mesh-ca.pem"

    @property
    def memory(self) -> Path | None:
        """Where what was seen is kept unless a file is named."""
        return None if self.state is None else self.state / MEMORY

    def _state(self) -> Path:
        if self.state is None or not self.state.is_dir():
            raise ConfigError(
                f"--state {self.state}: no such directory; name a broker with --broker HOST:PORT"
            )
        return self.state


def source_options(command: F) -> F:
    """Give `command` the options that say whose log it is about, and the argument `source`."""

    @click.option("--broker", metavar="HOST:PORT", help="The broker to ask.")
    @click.option(
        "--state",
        type=click.Path(path_type=Path),
        help="A state directory of this machine.  [default: .wardian]",
    )
    @click.option("--ca", type=existing, help="The mesh CA, PEM, from verified evidence.")
    @wraps(command)
    def with_source(
        *args: object, broker: str | None, state: Path | None, ca: Path | None, **options: object
    ) -> object:
        """Call the command with what the options name, or for a file with what vouches for it."""
        offline = options.get("exported") is not None or options.get("proof") is not None
        source = find_for_file(state, ca) if offline else find(broker, state, ca)
        return command(*args, source=source, **options)

    return with_source  # type: ignore[return-value]


def find(broker: str | None, state: Path | None, ca: Path | None) -> Source:
    """Return the source that the options name.

    A state directory has the mesh CA's certificate: `wardian up` put it there from the evidence
    that it verified as the owner.
    """
    if broker is not None:
        if state is not None:
            raise ConfigError("--broker and --state: name one of the two")
        return Source(broker=broker, state=None, ca=ca)
    return Source(
        broker=None, state=state or DEFAULT_STATE, ca=ca or _ca_in(state or DEFAULT_STATE)
    )


def find_for_file(state: Path | None, ca: Path | None) -> Source:
    """Return who vouches for a file of whatever mesh: only what was named does."""
    return Source(broker=None, state=None, ca=ca or (None if state is None else _ca_in(state)))


def _ca_in(state: Path) -> Path | None:
    own = StateDir(state).mesh_ca
    return own if own.is_file() else None


def parse_address(text: str, *, what: str = "--broker") -> tuple[str, int]:
    """Return host and port of HOST:PORT; an IPv6 address stands in brackets.

    Args:
        text: as a person wrote it.
        what: what it is the value of, for the message.

    Raises:
        ConfigError: something else.
    """
    found = _ADDRESS.match(text)
    if found is None or int(found[2]) > MAX_PORT:
        raise ConfigError(f"{what} {text!r}: HOST:PORT was expected")
    return found[1], int(found[2])


def load_ca(path: Path) -> bytes:
    """Return the key (DER) of the CA whose certificate is in the PEM file `path`.

    Raises:
        ConfigError: it is not one certificate of a CA.
    """
    raw = path.read_bytes()[:MAX_PEM_BYTES]
    try:
        return verify_ca_certificate(ssl.PEM_cert_to_DER_cert(raw.decode("ascii").strip()))
    except (ValueError, FormatError, AuthenticationFailed) as err:
        raise ConfigError(f"{path}: holds no mesh CA's certificate in PEM") from err


@contextlib.contextmanager
def log_refused() -> Iterator[None]:
    """Turn what shows that a log is not whole into a refusal: exit status 3."""
    try:
        yield
    except (AuthenticationFailed, FormatError) as err:
        raise PolicyDenied(str(err), rule="audit-log") from err
