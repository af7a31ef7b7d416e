"""The flags of Cluster Serving's HTTP front ends, read as one more file of keys.

Other users of the machine can read the arguments of a process. A flag that takes a password is
refused before anything else is done, and no message holds a value.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from wardian.compat.zoo.keys import JKS, Fate, Flag, Key, Text, Whole
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.values import Values
from wardian.compat.zoo.yaml_tree import Entry, Scalar
from wardian.errors import ConfigError

NAME: Final = "flags"
"""What they are called in the report, where a line is the place of an argument."""
MAX_FLAGS: Final = 256
PortNumber = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Rate = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
_WaitMs = Annotated[int, msgspec.Meta(ge=0, le=60_000)]

_SAME = "it has to be that of config.yaml, which is served"
_WINDOW = "it had no effect in the original"
_TOKENS = "with httpsEnabled; else `rate_per_s` in the tenants list"

FLAGS: Final = (
    Key(
        name="interface",
        fate=Fate.WORKS,
        told="where [frontend] `address` and [zoo] `listen` of operator.toml are; without it only "
        "this machine is served",
    ),
    Key(
        name="port",
        kind=PortNumber,
        fate=Fate.WORKS,
        told="[frontend] `port` in operator.toml, over TLS: there is no plain HTTP",
    ),
    Key(
        name="securePort",
        kind=PortNumber,
        fate=Fate.WORKS,
        told="the port of [zoo] `listen` in operator.toml, with httpsEnabled",
    ),
    Key(name="redisHost", fate=Fate.WORKS, told=_SAME),
    Key(name="redisPort", kind=PortNumber, fate=Fate.WORKS, told=_SAME),
    Key(name="redisInputQueue", fate=Fate.WORKS, told="it has to be `jobName` of config.yaml"),
    Key(name="redisOutputQueue", fate=Fate.NOT_NEEDED, told="answers come with the request"),
    Key(
        name="parallelism",
        kind=Whole,
        fate=Fate.NOT_NEEDED,
        told="`max_waiting` of wardian.toml bounds what is under way",
    ),
    Key(name="timeWindow", kind=Whole, fate=Fate.NOT_NEEDED, told=_WINDOW),
    Key(name="countWindow", kind=Whole, fate=Fate.NOT_NEEDED, told=_WINDOW),
    Key(
        name="tokenBucketEnabled",
        kind=Flag,
        fate=Fate.WORKS,
        told=f"[zoo] `tokens_per_second` in operator.toml, {_TOKENS}",
    ),
    Key(
        name="tokensPerSecond",
        kind=_Rate,
        fate=Fate.WORKS,
        told="[zoo] `tokens_per_second` in operator.toml, with tokenBucketEnabled",
    ),
    Key(
        name="tokenAcquireTimeout",
        kind=_WaitMs,
        fate=Fate.WORKS,
        told="[zoo] `token_wait_ms` in operator.toml, with tokenBucketEnabled",
    ),
    Key(
        name="httpsEnabled",
        kind=Flag,
        fate=Fate.WORKS,
        told="with `--http` `keystore = true` in [dialects.zoo] of wardian.toml: UNPROTECTED. "
        "Without `--http` cannot be had",
    ),
    Key(
        name="httpsKeyStorePath",
        fate=Fate.WORKS,
        told="[zoo] `keystore` in operator.toml, a copy of the file",
    ),
    Key(
        name="httpsKeyStoreToken",
        fate=Fate.CANNOT,
        told="other users can read arguments: put it on the first line of a file of yours alone, "
        "and give `--keystore-password-file`",
        secret=True,
    ),
    Key(
        name="redisSecureEnabled",
        kind=Flag,
        fate=Fate.NOT_NEEDED,
        told="config.yaml says whether its Redis has TLS",
    ),
    Key(name="redissTrustStorePath", fate=Fate.NOT_NEEDED, told=JKS),
    Key(
        name="redissTrustStoreToken",
        fate=Fate.CANNOT,
        told="other users can read arguments: leave it out, a certificate in PEM has no password; "
        "that of a Redis goes into `--redis-password-file`",
        secret=True,
    ),
    Key(name="servableManagerConfPath", fate=Fate.WORKS, told="as `--servables`"),
)
_BY_NAME: Final = {key.name.lower(): key for key in FLAGS}


class FlagSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What of them has a meaning here, with the defaults of the original."""

    interface: Text = ""
    port: PortNumber | None = None
    secure_port: PortNumber = 10023
    redis_host: Text | None = None
    redis_port: PortNumber | None = None
    redis_input_queue: Text | None = None
    token_bucket_enabled: bool = False
    tokens_per_second: _Rate = 100
    token_acquire_timeout: _WaitMs = 100
    https_enabled: bool = False
    https_key_store_path: Text | None = None
    servable_manager_conf_path: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagFile:
    """The flags, read.

    Attributes:
        settings: their values.
        numbers: of each flag's finding in the report, by the flag's name.
    """

    settings: FlagSettings
    numbers: dict[str, int]


def refuse_passwords(arguments: Sequence[str]) -> None:
    """Return if no flag among `arguments` takes a password, in whatever case it is written.

    Raises:
        ConfigError: one does; says what to do, and never its value.
    """
    for argument in arguments:
        key = _BY_NAME.get(_split(argument)[0].lower())
        if key is not None and key.secret:
            raise ConfigError(f"--{key.name}: {key.told}")


def parse_flags(arguments: Sequence[str], *, report: Report) -> FlagFile:
    """Return the settings in `arguments`; each flag is in `report` afterwards.

    Args:
        arguments: `--FLAG VALUE` or `--FLAG=VALUE`, at most 256 flags.
        report: takes the flags.

    Raises:
        ConfigError: not such flags, or one that takes a password; says which argument, and never a
            value.
    """
    refuse_passwords(arguments)
    values = Values(file=NAME, report=report)
    values.take(_entries(arguments), _BY_NAME)
    return FlagFile(settings=msgspec.convert(values.by_key, FlagSettings), numbers=values.numbers)


def _entries(arguments: Sequence[str]) -> Iterator[Entry]:
    if len(arguments) > 2 * MAX_FLAGS:
        raise ConfigError(f"more than {MAX_FLAGS} flags behind --")
    rest = iter(enumerate(arguments, 1))
    for line, argument in rest:
        if not argument.startswith("--") or len(argument) == 2:
            raise ConfigError(f"behind --, argument {line}: expected --FLAG VALUE")
        name, value = _split(argument)
        if value is None:
            _, value = next(rest, (0, "--"))
            if value.startswith("--"):
                raise ConfigError(f"behind --, argument {line}: expected a value behind it")
        yield Entry(name=name, line=line, value=Scalar(text=value, line=line))


def _split(argument: str) -> tuple[str, str | None]:
    """Return the flag's name, and the value that is written with it behind "=" or ":"."""
    name, *value = re.split(r"[=:]", argument.lstrip("-"), maxsplit=1)
    return name, value[0] if value else None
