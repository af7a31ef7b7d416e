"""UNPROTECTED: `InputQueue` and `OutputQueue` over the stream that their server, or ours, reads.

    from wardian.compat.zoo.unprotected import InputQueue, OutputQueue

    with InputQueue(host="localhost", port=6379) as queue:
        queue.enqueue("my-uri", t=array)
        queue.predict({"t": array}, timeout=5)

Records and results lie in the clear in that Redis: whoever runs it reads, changes and forges them,
and nothing here knows who answers (TRUST T17). The queues of `wardian.compat.zoo` verify whom they
ask.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

from typing_extensions import Unpack, override

from wardian._internal.log import event
from wardian.compat.zoo.closing import Closing
from wardian.compat.zoo.data import ABSENT, DEFAULT_NAME, NAN, build_record, read_request
from wardian.compat.zoo.unprotected.connection import BlockingRedis
from wardian.compat.zoo.unprotected.place import find_redis
from wardian.compat.zoo.unprotected.stream import Stream
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, FormatError, JobFailed
from wardian.inference.spec import Array
from wardian.serving.zoo.result_arrays import parse_result

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 30.0

_warned = threading.Lock()  # locked once the warning was logged, and never again


class Settings(TypedDict, total=False):
    """Where the stream is. Each has a default.

    Attributes:
        host: where Redis is: this machine. Elsewhere it needs TLS or a password.
        port: 6379.
        name: of the stream: "serving_stream".
        ca_file: the CA of Redis' certificate, PEM: with it, TLS 1.3; without, no TLS.
        redis_name: the name in the certificate: `host`.
        password: of Redis, or the file that holds it, which is for its user alone: none.
        username: of Redis: its default one.
        timeout_s: for each exchange with Redis: 30.
    """

    host: str | None
    port: int | str | None
    name: str
    ca_file: Path | str | None
    redis_name: str | None
    password: Secret | Path | None
    username: str
    timeout_s: float


class _Queue(Closing):
    """A connection to the stream of one name, in the clear for whoever runs its Redis."""

    def __init__(
        self,
        *,
        host: str | None = None,
        port: int | str | None = None,
        name: str = DEFAULT_NAME,
        ca_file: Path | str | None = None,
        redis_name: str | None = None,
        password: Secret | Path | None = None,
        username: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Connect and log in; see `Settings`.

        Raises:
            ConfigError: a setting is wrong, or open to everybody on a network.
            TransportError: Redis cannot be reached, or does not let this client in.
        """
        place = find_redis(
            host,
            port,
            ca_file=ca_file,
            redis_name=redis_name,
            password=password,
            username=username,
        )
        self._redis = BlockingRedis(place)
        self._stream = Stream(self._redis, name, timeout_s=timeout_s)
        _warn()
        try:
            self._stream.greet()
        except BaseException:
            self._redis.close()
            raise

    @override
    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


class InputQueue(_Queue):
    """Enqueues records of one stream. Thread-safe; connects again at the call after an error."""

    def __init__(self, frontend_url: str | None = None, **redis: Unpack[Settings]) -> None:
        """Connect and log in.

        Args:
            frontend_url: None. A front end is for `wardian.compat.zoo.InputQueue`.
            redis: see `Settings`.

        Raises:
            ConfigError: a setting is wrong, or open to everybody on a network; or there is a
                `frontend_url`.
            TransportError: Redis cannot be reached, or does not let this client in.
        """
        if frontend_url is not None:
            raise ConfigError(
                "frontend_url: a front end is asked, and verified, by wardian.compat.zoo.InputQueue"
            )
        super().__init__(**redis)

    def enqueue(self, uri: str, **data: Any) -> None:
        """Have the model run on `data`; its result is under `uri`, "NaN" if there is none.

        Args:
            uri: any text, of 4,096 bytes at most.
            data: by input name: see `read_value`.

        Raises:
            TypeError: a value is of no kind that is taken.
            RequestError: it is no record.
            QueueFull: Redis is full: nothing was enqueued.
            TransportError: whether it was enqueued is unknown.
        """
        self._stream.put([(uri, build_record(data))])

    def enqueue_many(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Enqueue `records`, by uri what `enqueue` takes, in one exchange: all of them, or none.

        At most 10,000. Raises as `enqueue`.
        """
        self._stream.put([(uri, build_record(data)) for uri, data in records.items()])

    def predict(self, request_data: Any, timeout: float = 5) -> Array | list[Array] | str:
        """Return what the model makes of `request_data`, within `timeout` seconds.

        Args:
            request_data: inputs by name, or what else `read_request` takes.
            timeout: in seconds, of all that is done.

        Raises:
            TypeError, RequestError, QueueFull: as of `enqueue`.
            Timeout: there is no result yet; one that comes later goes by its time to live.
            JobFailed: the service has no answer to this record.
            TransportError: Redis went away.
        """
        record = build_record(read_request(request_data))
        value, why = _read(self._stream.ask(record, timeout_s=timeout))
        if why:
            raise JobFailed(why)
        return value


class OutputQueue(_Queue):
    """Reads results of one stream, whoever enqueued. Thread-safe, as `InputQueue` is."""

    def query(self, uri: str, delete: bool = False) -> Any:  # noqa: FBT001, FBT002  theirs
        """Return the result of `uri`.

        It is an array, a list of them, a text where the service makes one (`topN`), "NaN" if there
        is no answer, "[]" if there is nothing under this uri.

        Raises:
            RequestError: no uri is as long.
            TransportError: Redis cannot be asked.
        """
        found = self._stream.take(uri) if delete else self._stream.find(uri)
        return ABSENT if found is None else _read(found)[0]

    def query_and_delete(self, uri: str) -> Any:
        """Return the result of `uri`, and delete it; one that comes in between stays."""
        return self.query(uri, delete=True)

    def why(self, uri: str) -> str:
        """Return why the result of `uri` is "NaN"; empty where it is not, or not there."""
        found = self._stream.find(uri)
        return "" if found is None else _read(found)[1]

    def dequeue(self) -> dict[str, Any]:
        """Return every result of this stream by its uri, and delete just these.

        Raises:
            TransportError: Redis cannot be asked.
        """
        return {uri: _read(value)[0] for uri, value in self._stream.take_all().items()}


def _read(value: bytes) -> tuple[Array | list[Array] | str, str]:
    """Return what a reader gets for the result `value`; where that is "NaN", also why."""
    if value == NAN.encode():
        return NAN, "the service has no answer to this record, and does not say why"
    try:
        if value.startswith(b"["):
            return value.decode(), ""
        outputs = parse_result(value)
    except (FormatError, UnicodeDecodeError) as err:
        event(log, "zoo.result_unreadable", level=logging.WARNING, kind=type(err).__name__)
        return NAN, f"the result does not parse: {err}"
    return (outputs[0] if len(outputs) == 1 else outputs), ""


def _warn() -> None:
    """Log once in this process that records are in the clear."""
    if _warned.acquire(blocking=False):
        event(
            log,
            "zoo.unprotected",
            level=logging.WARNING,
            said="UNPROTECTED: records and results lie in the clear in a Redis, where whoever runs "
            "it reads and forges them",
        )
