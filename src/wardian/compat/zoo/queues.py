"""`InputQueue` and `OutputQueue` of Cluster Serving's Python API, over a front end of a mesh.

    from wardian.compat.zoo import InputQueue, OutputQueue

    queue = InputQueue(frontend_url="https://host:8443", policy="client-policy.toml")
    queue.enqueue("my-uri", t=array)
    ...
    OutputQueue().query("my-uri")

Nothing is in the clear on the way: records are requests of the verifying client. Results come to
the process that enqueued, so that a reader in another process asks for itself (`predict`). What
went wrong there goes right here: a record is never dropped in silence, `timeout` is seconds, and
any uri is a uri. Over a Redis the same queues are had from `wardian.compat.zoo.unprotected`.
"""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from wardian._internal.clock import monotonic
from wardian._internal.log import event
from wardian.compat.zoo.closing import Closing
from wardian.compat.zoo.data import ABSENT, DEFAULT_NAME, NAN, read_request
from wardian.compat.zoo.inputs import Prepared, prepare, result
from wardian.compat.zoo.mailbox import OF_PROCESS
from wardian.crypto.secret import Secret
from wardian.errors import ConfigError, QueueFull, RequestError, Timeout
from wardian.inference.spec import Array
from wardian.serving.client.credentials import ClientCertificate
from wardian.serving.client.policy import ClientPolicy
from wardian.serving.client.sealing import Seal
from wardian.serving.client.sync import Client, connect

log = logging.getLogger(__name__)

CONCURRENT: Final = 16
"""Records of one queue that are asked at a time."""
_NOT_HERE: Final = (
    "Over host= and port= records lie in the clear in a Redis, where whoever runs it reads and "
    "forges them; if that is meant, write it: "
    "from wardian.compat.zoo.unprotected import InputQueue, OutputQueue"
)


class InputQueue(Closing):
    """Enqueues records for one model. Thread-safe; ends with `close`, or as a context manager."""

    def __init__(
        self,
        frontend_url: str | None = None,
        *,
        policy: ClientPolicy | Path | str | None = None,
        model: str | None = None,
        version: int | None = None,
        name: str = DEFAULT_NAME,
        timeout_s: float = 30.0,
        api_key: Secret | Path | None = None,
        certificate: ClientCertificate | None = None,
        seal: Seal | None = None,
        **redis: Any,
    ) -> None:
        """Connect to the front end and verify it.

        Args:
            frontend_url: `https://HOST[:PORT]`.
            policy: what the front end must be; see `wardian.connect`.
            model: of the mesh; by default its only one.
            version: of the model; by default the newest.
            name: of the queue; an `OutputQueue` of the same name has the results.
            timeout_s: for each record.
            api_key: of a tenant; likewise `certificate`.
            certificate: see `wardian.connect`.
            seal: "worker" seals records to the model's workers.
            redis: `host`, `port` and the like of the original: refused, with what to do.

        Raises:
            ConfigError: no URL or policy; or the mesh has several models and none was named.
            WardianError: as of `wardian.connect`.
        """
        if frontend_url is None or policy is None or redis:
            raise ConfigError(
                "InputQueue: name frontend_url='https://...' and policy='client-policy.toml'. "
                + _NOT_HERE
            )
        self._client = connect(
            frontend_url,
            policy=policy,
            timeout_s=timeout_s,
            api_key=api_key,
            certificate=certificate,
            seal=seal,
        )
        try:
            self._model = model or _only_model(self._client)
            described = self._client.metadata(self._model, version=version)
        except BaseException:
            self._client.close()
            raise
        self._version, self._timeout_s = version, timeout_s
        self._specs: list[dict[str, Any]] = described["inputs"]
        self._order = [spec["name"] for spec in described["outputs"]]
        self._mailbox = OF_PROCESS.of(name)
        self._threads = ThreadPoolExecutor(CONCURRENT, thread_name_prefix="zoo-queue")

    def enqueue(self, uri: str, **data: Any) -> None:
        """Have the model run on `data`; the result is under `uri`, "NaN" if there is none.

        Args:
            uri: any text; a result of the same one that was not read is replaced.
            data: by input name: see `read_value`.

        Raises:
            TypeError: a value is of no kind that is taken.
            QueueFull: too many records are under way: nothing was enqueued.
        """
        self._mailbox.begin()
        try:
            prepared = prepare(data, specs=self._specs)
            deadline = monotonic() + self._timeout_s
            self._threads.submit(self._run, uri, prepared, deadline)
        except RequestError as err:
            self._note_failed(uri, err)
        except BaseException:
            self._mailbox.cancel()
            raise

    def predict(self, request_data: Any, timeout: float = 5) -> Array | list[Array]:
        """Return what the model makes of `request_data`, within `timeout` seconds.

        Args:
            request_data: inputs by name, or what else `read_request` takes.
            timeout: in seconds, of all that is done.

        Raises:
            TypeError: as of `enqueue`.
            WardianError: as of `wardian.Client.infer`.
        """
        prepared = prepare(read_request(request_data), specs=self._specs)
        return self._infer(prepared, monotonic() + timeout)

    @override
    def close(self) -> None:
        """Wait for the records that are under way, and close the connections."""
        self._threads.shutdown()
        self._client.close()

    def _run(self, uri: str, prepared: Prepared, deadline: float) -> None:
        try:
            value = self._infer(prepared, deadline)
        except Exception as err:  # noqa: BLE001  whatever it was, the record has an end
            self._note_failed(uri, err)
        else:
            self._mailbox.end(uri, value)

    def _note_failed(self, uri: str, err: Exception) -> None:
        event(log, "zoo.record_failed", level=logging.WARNING, kind=type(err).__name__)
        self._mailbox.end(uri, NAN, why=str(err))

    def _infer(self, prepared: Prepared, deadline: float) -> Array | list[Array]:
        """Return the result; while too much waits at the front end, ask again when it says."""
        while True:
            left_s = deadline - monotonic()
            if left_s <= 0:
                raise Timeout("no answer within the time that was given")
            try:
                outputs = self._client.infer(
                    self._model, prepared.inputs, version=self._version, timeout_s=left_s
                )
            except QueueFull as busy:
                if monotonic() + busy.retry_after_s >= deadline:
                    raise
                time.sleep(busy.retry_after_s)
            else:
                return result(outputs, order=self._order, single=prepared.single)


class OutputQueue:
    """Reads what became of the records of the `InputQueue`s of one name in this process."""

    def __init__(self, *, name: str = DEFAULT_NAME, **redis: Any) -> None:
        """Read the results of `name`.

        Raises:
            ConfigError: `host`, `port` and the like of the original: they are not here.
        """
        if redis:
            raise ConfigError(f"OutputQueue: results are in this process. {_NOT_HERE}")
        self._mailbox = OF_PROCESS.of(name)

    def query(self, uri: str, delete: bool = False) -> Any:  # noqa: FBT001, FBT002  theirs
        """Return the result of `uri`: an array, a list of them, "NaN", or "[]" if there is none."""
        found = self._mailbox.find(uri, remove=delete)
        return ABSENT if found is None else found.value

    def query_and_delete(self, uri: str) -> Any:
        """Return the result of `uri`, and forget it."""
        return self.query(uri, delete=True)

    def why(self, uri: str) -> str:
        """Return why the result of `uri` is "NaN"; empty where it is not, or not there."""
        found = self._mailbox.find(uri, remove=False)
        return "" if found is None else found.why

    def dequeue(self) -> dict[str, Any]:
        """Return every result that is there by its uri, and forget them."""
        return self._mailbox.take_all()


def _only_model(client: Client) -> str:
    names = [str(each["name"]) for each in client.models()]
    if len(names) != 1:
        raise ConfigError(f"InputQueue: the mesh has the models {names}: name one with model=")
    return names[0]
