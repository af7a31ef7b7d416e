"""Files with an owner's policy in them: as a person writes it, or signed."""

from dataclasses import dataclass
from pathlib import Path

from wardian._internal import wire
from wardian._internal.settings import read
from wardian.broker.jobs.policy import DataPolicy, load_policy
from wardian.broker.jobs.signing import (
    MAX_SIGNED_BYTES,
    SignedPolicy,
    parse_policy,
    verify_policy,
)
from wardian.errors import ConfigError, FormatError


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOnDisk:
    """What a file says; `signed` is None for one that a person wrote."""

    policy: DataPolicy
    signed: SignedPolicy | None

    @property
    def state(self) -> str:
        """Whether anybody signed it."""
        return "not signed" if self.signed is None else f"signed by {self.policy.owner}"


def read_policy(path: Path) -> PolicyOnDisk:
    """Return the policy in the file `path`; a signature in it is verified.

    Raises:
        ConfigError: it cannot be read, or is no policy.
        AuthenticationFailed: it is signed, and not by the owner whom it names.
    """
    raw = read(path, limit_bytes=MAX_SIGNED_BYTES)
    if not raw.lstrip().startswith(b"{"):
        return PolicyOnDisk(policy=load_policy(raw, name=str(path)), signed=None)
    try:
        signed = wire.decode(raw, SignedPolicy, what="signed policy")
        said = parse_policy(signed)
    except FormatError as err:
        raise ConfigError(f"{path}: {err}") from err
    return PolicyOnDisk(policy=verify_policy(signed, mesh=said.mesh).policy, signed=signed)
