"""The Redis stream of a job, as `[dialects.zoo_redis]` and `[zoo]` have it; or why it is not."""

import re
from typing import Final

from wardian.compat.zoo.keys import JKS, NO_STREAM, Fate
from wardian.compat.zoo.migration.files import Files
from wardian.compat.zoo.migration.plan import filter_of
from wardian.compat.zoo.migration.toml import path_text, text
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.compat.zoo.report import Report
from wardian.compat.zoo.servables import ClusterServable
from wardian.compat.zoo.their_place import DEFAULT, TheirPlace, their_place
from wardian.errors import ConfigError

_STREAM: Final = re.compile(r"\A[A-Za-z0-9._-]{1,128}\Z")
_OWN_KEY: Final = (
    "its key was the same everywhere; requests are under TLS and sealed in the queue, and a client "
    'seals past the front end by `seal="worker"`'
)


def stream_wanted(files: Files, wanted: Wanted) -> bool:
    """Return whether a stream is to be read: a job over Kafka has none."""
    return wanted.stream and files.config.settings.queue_used.lower() == "redis"


def redis_of(files: Files, wanted: Wanted) -> TheirPlace:
    """Return the job's Redis.

    Raises:
        ConfigError: there is no way to ask it; says what to give.
    """
    said = files.config.settings
    if said.redis_secure_enabled and wanted.redis_ca is None:
        raise ConfigError(f"{files.config.name}: redisSecureEnabled: {JKS}")
    return their_place(
        said.redis_url or DEFAULT,
        said=f"{files.config.name}: redisUrl",
        tls=said.redis_secure_enabled,
        ca_file=wanted.redis_ca,
        username=wanted.redis_user,
        password_file=wanted.redis_password,
    )


def stream_tables(
    files: Files, place: TheirPlace, model: str, report: Report
) -> tuple[list[str], list[str], list[str]]:
    """Return lines for wardian.toml and for [zoo] of operator.toml, and what is UNPROTECTED.

    Raises:
        ConfigError: `jobName` names no stream.
    """
    config, numbers = files.config, files.config.numbers
    said = config.settings
    if not _STREAM.match(said.job_name):
        raise ConfigError(
            f"{config.name}: jobName: a stream's name is 1 to 128 of A-Z, a-z, 0-9, '.', '_' and "
            "'-' here; --no-stream leaves it out"
        )
    agreed = [f"[dialects.zoo_redis.jobs.{text(said.job_name)}]", f"model = {text(model)}"]
    if (asked := filter_of(config)) is not None:
        agreed.append(f"top_n = {text(asked)}")
    told = [f"records and results of stream {said.job_name} lie in the clear in {place.url}"]
    if said.record_encrypted:
        agreed.append("record_encrypted = true")
        why = "`record_encrypted` of the stream: its key is the same everywhere and hides nothing"
        report.amend(numbers.get("recordEncrypted"), Fate.WORKS, why)
        told.append("recordEncrypted hides nothing: its key is the same everywhere")
    zoo = [f"redis = {text(place.url)}"]
    if place.ca_file is not None:
        zoo.append(f"ca_file = {path_text(place.ca_file)}")
    if place.tls and place.host != place.address:
        zoo.append(f"redis_name = {text(place.host)}")
    if place.username:
        zoo.append(f"username = {text(place.username)}")
    if place.password_file is not None:
        zoo.append(f"password_file = {path_text(place.password_file)}")
    _tell(files, place, report)
    return agreed, zoo, told


def _tell(files: Files, place: TheirPlace, report: Report) -> None:
    """Say of each key that names the Redis what became of it."""
    numbers = files.config.numbers
    report.amend(
        numbers.get("redisUrl"), Fate.WORKS,
        f"the stream of `jobName` is read at {place.url}: UNPROTECTED",
    )  # fmt: skip
    if place.tls:
        report.amend(numbers.get("redisSecureEnabled"), Fate.WORKS, "`rediss://` in [zoo]")
        came = "the CA is that of `--redis-ca-file`"
        report.amend(numbers.get("redisSecureTrustStorePath"), Fate.NOT_NEEDED, came)
    else:
        _without_tls(files, report)
    for each in files.servables:
        said = each.settings
        if isinstance(said, ClusterServable) and not place.is_at(said.redis_host, said.redis_port):
            _other_redis(each.numbers, report)
    flags = files.flags.settings
    if (flags.redis_host or flags.redis_port) and not place.is_at(
        flags.redis_host, flags.redis_port
    ):
        _other_redis(files.flags.numbers, report)


def _other_redis(numbers: dict[str, int], report: Report) -> None:
    why = "another Redis than that of `redisUrl`, which is read; front ends ask none"
    for key in ("redisHost", "redisPort"):
        report.amend(numbers.get(key), Fate.CANNOT, why)


def _without_tls(files: Files, report: Report) -> None:
    numbers = files.config.numbers
    for key in ("redisSecureEnabled", "redisSecureTrustStorePath"):
        report.amend(numbers.get(key), Fate.NOT_NEEDED, "redisSecureEnabled is not true")


def tell_no_stream(files: Files, report: Report) -> None:
    """Say of each key that names the Redis that it is not asked."""
    said, numbers = files.config.settings, files.config.numbers
    nothing = (Fate.NOT_NEEDED, "it asks for nothing here")
    report.amend(
        numbers.get("redisUrl"), *((Fate.CANNOT, NO_STREAM) if said.redis_url else nothing)
    )
    report.amend(
        numbers.get("recordEncrypted"),
        *((Fate.CANNOT, _OWN_KEY) if said.record_encrypted else nothing),
    )
    for key in ("redisSecureEnabled", "redisSecureTrustStorePath"):
        report.amend(numbers.get(key), Fate.NOT_NEEDED, "no Redis is asked without `--stream`")
    for each in files.servables:
        for key in ("redisHost", "redisPort"):
            report.amend(each.numbers.get(key), Fate.CANNOT, NO_STREAM)
    for key in ("redisHost", "redisPort"):
        report.amend(files.flags.numbers.get(key), Fate.CANNOT, NO_STREAM)
