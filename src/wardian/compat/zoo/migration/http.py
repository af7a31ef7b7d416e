"""The HTTP front ends of Cluster Serving, as `[dialects.zoo]` and `[zoo]` have them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wardian._internal.settings import read
from wardian.compat.zoo.flags import FlagSettings
from wardian.compat.zoo.keys import RATE, Fate
from wardian.compat.zoo.migration.files import Files
from wardian.compat.zoo.migration.toml import path_text, text
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import ClusterServable
from wardian.errors import ConfigError

KEYSTORE: Final = "zoo-keystore/keystore.pkcs12"
"""Its copy, below the directory that is written: a role reads nothing else there."""
MAX_KEYSTORE_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class HttpTables:
    """Lines for wardian.toml and for tables of operator.toml, and what is UNPROTECTED."""

    agreed: list[str] = field(default_factory=list)
    frontend: list[str] = field(default_factory=list)
    zoo: list[str] = field(default_factory=list)
    unprotected: list[str] = field(default_factory=list)
    keystore: bytes | None = None
    """What is copied to `KEYSTORE`."""


def http_tables(files: Files, model: str | None, wanted: Wanted, report: Report) -> HttpTables:
    """Return what the files come to; what cannot be had is in `report` afterwards.

    Raises:
        ConfigError: the keystore, or its password, cannot be had; says what to give.
    """
    made, flags = HttpTables(), files.flags.settings
    if wanted.http:
        made.agreed = ["[dialects.zoo]", "enabled = true"]
        made.agreed += [] if model is None else [f"default_model = {text(model)}"]
        if _direct(files, report):
            made.agreed.append('model_answers = "arrow"')
    _place(flags, made)
    if flags.redis_input_queue not in (None, files.config.settings.job_name):
        why = "another job's stream: give that one's config.yaml"
        report.amend(files.flags.numbers.get("redisInputQueue"), Fate.CANNOT, why)
    if flags.https_enabled and wanted.http:
        _keystore(flags, made, wanted)
    else:
        _no_keystore(files, flags, report)
    return made


def _direct(files: Files, report: Report) -> bool:
    """Return whether all servables of the job had the front end answer in Arrow's form."""
    mine = [
        (each.settings.input_compile_type.lower(), each.numbers.get("inputCompileType"))
        for each in files.servables
        if isinstance(each.settings, ClusterServable)
        and each.settings.redis_input_queue == files.config.settings.job_name
    ]
    if {form for form, _ in mine} != {"direct"}:
        return False
    for _, number in mine:
        report.amend(number, Fate.WORKS, '`model_answers = "arrow"` in [dialects.zoo]')
    return True


def _place(flags: FlagSettings, made: HttpTables) -> None:
    if flags.interface:
        made.frontend.append(f"address = {text(flags.interface)}")
    if flags.port is not None:
        made.frontend.append(f"port = {flags.port}")


def _keystore(flags: FlagSettings, made: HttpTables, wanted: Wanted) -> None:
    if not flags.https_key_store_path:
        raise ConfigError("--httpsEnabled true: needs --httpsKeyStorePath, a file of PKCS #12")
    if wanted.keystore_password is None:
        raise ConfigError(
            "--httpsKeyStorePath: put its password on the first line of a file of yours alone, and "
            "give --keystore-password-file"
        )
    made.keystore = read(Path(flags.https_key_store_path), limit_bytes=MAX_KEYSTORE_BYTES)
    host = flags.interface or "127.0.0.1"
    listen = f"{f'[{host}]' if ':' in host else host}:{flags.secure_port}"
    made.agreed.append("keystore = true")
    made.zoo += [
        f"listen = {text(listen)}",
        f"keystore = {path_text(wanted.out / KEYSTORE)}",
        f"keystore_password_file = {path_text(wanted.keystore_password)}",
    ]
    if flags.token_bucket_enabled:
        made.zoo += [
            f"tokens_per_second = {flags.tokens_per_second}",
            f"token_wait_ms = {flags.token_acquire_timeout}",
        ]
    made.unprotected.append(
        f"who holds the key of {flags.https_key_store_path} reads what is said to https://{listen}"
    )


def _no_keystore(files: Files, flags: FlagSettings, report: Report) -> None:
    """Say of each flag about HTTPS what it asks for in vain."""
    numbers = files.flags.numbers
    off = "httpsEnabled is not true"
    if flags.https_enabled:
        off = "not without `--http`"
        report.amend(numbers.get("httpsEnabled"), Fate.CANNOT, off)
    fate = Fate.CANNOT if flags.https_enabled else Fate.NOT_NEEDED
    for key in ("securePort", "httpsKeyStorePath"):
        report.amend(numbers.get(key), fate, off)
    limited = flags.token_bucket_enabled
    fate, why = (Fate.CANNOT, RATE) if limited else (Fate.NOT_NEEDED, "it asks for nothing here")
    for key in ("tokenBucketEnabled", "tokensPerSecond", "tokenAcquireTimeout"):
        report.amend(numbers.get(key), fate, why)
