"""What every dialect asks of the front end: its models, an inference, a count."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import Metrics
from wardian.errors import RequestError
from wardian.inference.spec import Tensors
from wardian.serving.catalog import ModelInfo
from wardian.serving.packing import moved_error
from wardian.serving.traces import Trace, Tracer

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome

CATALOG_AGE_S: Final = 0.1
"""How old a description of the models may be: making one costs more than many a request."""

Done: TypeAlias = Callable[["Outcome"], None]


class Dispatching(Protocol):
    """What the dialects need of `dispatch.Dispatcher`."""

    def submit(
        self,
        *,
        model: str,
        version: int | None,
        inputs: Tensors,
        outputs: tuple[str, ...] | None,
        deadline_s: float,
        done: Done,
        tenant: str = "",
        weight: int = 1,
        sealed: bool = False,
    ) -> None:
        """Accept one request; see `dispatch.Dispatcher.submit`."""

    def catalog(self) -> dict[str, ModelInfo]:
        """Return every model of the mesh by name."""


class Service:
    """Models and inferences, for all dialects of one front end.

    Attributes:
        metrics: counts.
        clock: monotonic seconds, for durations.
        in_flight: inferences accepted and not yet answered.
        serves: whether connections to a server key are of the manifest in force.
        tracer: decides which inferences are traced; one for all of a process.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        metrics: Metrics,
        deadline_s: float,
        serves: Callable[[bytes], bool],
        clock: Monotonic = monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        """Serve; the arguments are those of `routes.Api`; `tracer` by default is one of its own."""
        self.metrics = metrics
        self.clock = clock
        self.in_flight = 0
        self.serves = serves
        self.tracer = tracer or Tracer(metrics=metrics, clock=clock)
        self._catalog = dispatcher.catalog
        self._submit = dispatcher.submit
        self._deadline_s = deadline_s
        self._infos: dict[str, ModelInfo] = {}
        self._infos_at = -CATALOG_AGE_S

    def of_caller(self, headers: Mapping[bytes, bytes], peer: str) -> "Service":
        """Return what the caller who sends `headers` from `peer` is served with: here this.

        Raises:
            TenantRefused: nobody here knows the caller, where callers have to be known.
        """
        del headers, peer
        return self

    def look(self) -> None:
        """Account for a request that is no inference.

        Raises:
            TenantRefused: 429; the caller asks too often.
        """

    def expect_metrics(self) -> None:
        """Return if the caller may read the metrics.

        Raises:
            RequestError: 403.
        """

    def over(self) -> None:
        """Count an inference out of `in_flight`: called once for each that `submit` accepted."""
        self.in_flight -= 1

    def expect_in_force(self, tls_spki: bytes) -> None:
        """Return if connections to this server key are of the manifest in force.

        Raises:
            RequestError: 421.
        """
        if not self.serves(tls_spki):
            raise moved_error()

    def submit(
        self,
        *,
        model: str,
        version: str,
        inputs: Tensors,
        outputs: tuple[str, ...] | None,
        timeout_s: float | None,
        connection: int,
        done: Done,
        sealed: bool = False,
    ) -> None:
        """Hand an inference over to the dispatcher; `done` has to call `over`.

        Args:
            model: name.
            version: as the client wrote it; "" for whichever has its turn.
            inputs: arrays.
            outputs: those wanted, or None for all.
            timeout_s: the client's own deadline, or None.
            connection: that it came on.
            done: gets the outcome.
            sealed: the client sealed it to the workers; see `dispatch.Dispatcher.submit`.

        Raises:
            RequestError, QueueFull: see `dispatch.Dispatcher.submit`.
        """
        deadline_s = self._deadline_s
        if timeout_s is not None:
            deadline_s = min(deadline_s, timeout_s)
        tenant, weight = self._begin(model, inputs, connection)
        try:
            self._submit(
                model=model,
                version=parse_version(version),
                inputs=inputs,
                outputs=outputs,
                deadline_s=deadline_s,
                done=done,
                tenant=tenant,
                weight=weight,
                sealed=sealed,
            )
        except BaseException:
            self.over()
            raise

    def go_on(
        self,
        *,
        model: str,
        version: str,
        inputs: Tensors,
        timeout_s: float | None,
        connection: int,
        done: Done,
    ) -> None:
        """Hand over what follows an inference that `submit` accepted and `over` has not ended.

        It is accounted for with that one, and has its turn as any other of its caller.

        Args:
            model: name.
            version: that answered before.
            inputs: arrays.
            timeout_s: what is left of the client's own deadline, or None.
            connection: that it came on.
            done: gets the outcome.

        Raises:
            RequestError, QueueFull: see `dispatch.Dispatcher.submit`.
        """
        tenant, weight = self._still(model, connection)
        self._submit(
            model=model,
            version=parse_version(version),
            inputs=inputs,
            outputs=None,
            deadline_s=self._deadline_s if timeout_s is None else min(self._deadline_s, timeout_s),
            done=done,
            tenant=tenant,
            weight=weight,
        )

    @property
    def patience_s(self) -> float:
        """Within how many seconds every inference has its outcome."""
        return self._deadline_s

    def _still(self, model: str, connection: int) -> tuple[str, int]:
        """Return whose an inference is that goes on with one that `_begin` accounted for.

        Raises:
            TenantRefused, RequestError: the caller may not have it done any more.
        """
        del model
        return str(connection), 1

    def _begin(self, model: str, inputs: Tensors, connection: int) -> tuple[str, int]:
        """Account for an inference; return whose it is, for batches and turns, and the weight.

        Whatever hands an inference over calls this before, and `over` after.

        Raises:
            TenantRefused, RequestError: the caller may not have it done.
        """
        del model, inputs
        self.in_flight += 1
        return str(connection), 1  # callers are not known: each connection is a tenant (T19)

    def models(self) -> dict[str, ModelInfo]:
        """Return every model by name, as it was at most `CATALOG_AGE_S` ago."""
        now = self.clock()
        if now - self._infos_at >= CATALOG_AGE_S:
            self._infos, self._infos_at = self._catalog(), now
        return self._infos

    def model(self, name: str, version: str) -> ModelInfo:
        """Return the model `name`, if it has the version.

        Raises:
            RequestError: 404; says which there are.
        """
        models = self.models()
        info = models.get(name)
        if info is None:
            raise no_model(name, models)
        number = parse_version(version)
        if number is not None and number not in info.versions:
            served = ", ".join(str(each) for each in info.versions) or "none yet"
            raise RequestError(
                f"no version {number} of model {info.name!r}; served: {served}", status=404
            )
        return info

    def waiting_models(self) -> list[str]:
        """Return the names of the models that have no worker."""
        return sorted(info.name for info in self.models().values() if not info.ready)

    def answered(
        self, route: str, model: str, status: int, started: float, trace: Trace | None = None
    ) -> None:
        """Count one answered request, which began at `started` on our clock, and end its trace."""
        seconds = self.clock() - started
        known = model if model in self.models() else ""
        self.metrics.answered(route, known, status, seconds)
        if trace is not None:
            trace.end(route=route, model=known, status=status, started=started)


def no_model(name: str, known: Iterable[str]) -> RequestError:
    """Return how a request for a model ends that is none of `known`: those the caller may ask."""
    there_are = ", ".join(sorted(known)) or "none"
    return RequestError(f"no model {name[:64]!r}; this mesh serves: {there_are}", status=404)


def parse_version(text: str) -> int | None:
    """Return the version that `text` says, or None where it is empty.

    Raises:
        RequestError: 404; not a whole number.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RequestError("a version is a whole number", status=404)
    return int(text)
