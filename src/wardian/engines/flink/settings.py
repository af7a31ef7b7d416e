"""The files with which Flink's processes start: `config.yaml`, and what they log.

The format is YAML 1.2 with one key a line; every value is written as a JSON string or number, which
is YAML. The passwords of the keystores stand in it: whoever writes it gives it mode 0600.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

from wardian.engines.flink import place as files
from wardian.engines.flink.place import FlinkPlace, FlinkTls
from wardian.errors import ConfigError

Setting: TypeAlias = str | int | bool

CONFIG: Final = "config.yaml"
LOG4J: Final = ("log4j-console.properties", "log4j-cli.properties")

_TLS: Final[Mapping[str, Setting]] = {
    "security.ssl.protocol": "TLSv1.3",
    "security.ssl.algorithms": "TLS_AES_256_GCM_SHA384,TLS_AES_128_GCM_SHA256",
    "security.ssl.rest.enabled": True,
    "security.ssl.rest.authentication-enabled": True,
    "security.ssl.verify-hostname": True,
}

# What PyFlink, Beam and Arrow reach into on Java 17, as the settings of the distribution have it.
_EXPORTS: Final = (
    "java.rmi/sun.rmi.registry",
    "java.security.jgss/sun.security.krb5",
)
_OPENS: Final = (
    "java.lang",
    "java.net",
    "java.io",
    "java.nio",
    "java.lang.reflect",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
)


def cluster_settings(place: FlinkPlace) -> dict[str, Setting]:
    """Return the settings of JobManager and TaskManagers of a cluster of our own.

    Every port that another process reaches wants the cluster's own certificate, or on the REST
    server the client's, and listens on the place's address alone.

    Raises:
        ConfigError: the place is that of a cluster that is there already.
    """
    if place.ports is None:
        raise ConfigError("flink: settings of a cluster that is not ours")
    return {
        **_TLS,
        **_stores(place.tls, "internal", files.INTERNAL_KEYSTORE, files.INTERNAL_TRUSTSTORE),
        **_stores(place.tls, "rest", files.REST_KEYSTORE, files.REST_TRUSTSTORE),
        "security.ssl.internal.enabled": True,
        **_addresses(place, place.ports),
        **_memory(place),
        **_behaviour(place.directory),
    }


def client_settings(place: FlinkPlace) -> dict[str, Setting]:
    """Return the settings with which a job is submitted."""
    host, port = place.rest_address
    return {
        **_TLS,
        **_stores(place.tls, "rest", files.CLIENT_KEYSTORE, files.CLIENT_TRUSTSTORE),
        "execution.target": "remote",
        "execution.attached": False,
        "rest.address": host,
        "rest.port": port,
        "rest.retry.max-attempts": 3,
        "env.java.opts.all": _java_options(),
    }


def write_settings(directory: Path, settings: Mapping[str, Setting]) -> None:
    """Write `settings` into `directory`, which becomes a FLINK_CONF_DIR, for this user alone.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(directory / CONFIG, yaml(settings))
        for name in LOG4J:
            _replace(directory / name, _LOG4J)
    except OSError as err:
        raise ConfigError(f"flink: {directory} cannot be written: {err.strerror}") from err


def yaml(settings: Mapping[str, Setting]) -> str:
    """Return `settings` as Flink reads them."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in sorted(settings.items()))


def _stores(tls: FlinkTls, kind: str, keystore: str, truststore: str) -> dict[str, Setting]:
    prefix = f"security.ssl.{kind}"
    return {
        f"{prefix}.keystore": str(tls.path(keystore)),
        f"{prefix}.keystore-password": tls.password,
        f"{prefix}.key-password": tls.password,
        f"{prefix}.truststore": str(tls.path(truststore)),
        f"{prefix}.truststore-password": tls.password,
    }


def _addresses(place: FlinkPlace, ports: files.FlinkPorts) -> dict[str, Setting]:
    return {
        "jobmanager.rpc.address": place.address,
        "jobmanager.rpc.port": ports.rpc,
        "jobmanager.bind-host": place.address,
        "rest.address": place.address,
        "rest.port": ports.rest,
        "rest.bind-address": place.address,
        "rest.bind-port": str(ports.rest),
        "blob.server.port": str(ports.blobs),
        "taskmanager.host": place.address,
        "taskmanager.bind-host": place.address,
        "taskmanager.rpc.port": ports.taskmanagers,
        "taskmanager.data.port": ports.data if "-" not in ports.data else 0,
        "metrics.internal.query-service.port": ports.metrics,
        "web.submit.enable": False,  # a job comes with a certificate, from the command line
        "web.cancel.enable": False,
    }


def _memory(place: FlinkPlace) -> dict[str, Setting]:
    memory = place.memory
    return {
        "jobmanager.memory.heap.size": f"{memory.jobmanager_heap}m",
        "jobmanager.memory.off-heap.size": "64m",
        "jobmanager.memory.jvm-metaspace.size": f"{memory.metaspace}m",
        "jobmanager.memory.jvm-overhead.min": "64m",
        "jobmanager.memory.jvm-overhead.max": "64m",
        "taskmanager.memory.framework.heap.size": f"{memory.taskmanager_heap - 64}m",
        "taskmanager.memory.task.heap.size": "64m",
        "taskmanager.memory.framework.off-heap.size": "64m",
        "taskmanager.memory.network.min": "16m",  # nothing but ticks flows
        "taskmanager.memory.network.max": "16m",
        "taskmanager.memory.managed.size": "16m",
        "taskmanager.memory.jvm-metaspace.size": f"{memory.metaspace}m",
        "taskmanager.memory.jvm-overhead.min": "64m",
        "taskmanager.memory.jvm-overhead.max": "64m",
        "taskmanager.numberOfTaskSlots": 1,
        "env.java.opts.all": _java_options(),
    }


def _behaviour(directory: Path) -> dict[str, Setting]:
    return {
        "pekko.startup-timeout": "90 s",  # 10 s, the default, end a TaskManager on a busy machine
        "heartbeat.interval": 3000,
        "heartbeat.timeout": 15000,  # 6 s were seen to flap
        "metrics.fetcher.update-interval": 500,
        "cluster.evenly-spread-out-slots": True,
        "execution.checkpointing.dir": (directory / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (directory / "savepoints").as_uri(),
        "io.tmp.dirs": str(directory / "tmp"),
        "process.working-dir": str(directory / "work"),
        "env.log.dir": str(directory / "logs"),
        "env.pid.dir": str(directory / "pids"),
    }


def _java_options() -> str:
    exports = (f"--add-exports={each}=ALL-UNNAMED" for each in _EXPORTS)
    opens = (f"--add-opens=java.base/{each}=ALL-UNNAMED" for each in _OPENS)
    # No attach socket, no file of performance counters, nothing that another user could read.
    return " ".join(
        (*exports, *opens, "-XX:+DisableAttachMechanism", "-XX:-UsePerfData", "-XX:+UseSerialGC")
    )


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)


_LOG4J: Final = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
"""
