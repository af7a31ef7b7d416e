"""What every dialect asks of the front end: its models, an inference, a count."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import Metrics
from wardian.errors import RequestError
from wardian.inference.spec import Tensors
from wardian.serving.catalog import ModelInfo
from wardian.serving.packing import moved_error

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
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        metrics: Metrics,
        deadline_s: float,
        serves: Callable[[bytes], bool],
        clock: Monotonic = monotonic,
    ) -> None:
        """Serve; the arguments are those of `routes.Api`."""
        self.metrics = metrics
        self.clock = clock
        self.in_flight = 0
        self.serves = serves
        self._catalog = dispatcher.catalog
        self._submit = dispatcher.submit
        self._deadline_s = deadline_s
        self._infos: dict[str, ModelInfo] = {}
        self._infos_at = -CATALOG_AGE_S

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
    ) -> None:
        """Hand an inference over to the dispatcher; `done` has to count it out of `in_flight`.

        Args:
            model: name.
            version: as the client wrote it; "" for the newest.
            inputs: arrays.
            outputs: those wanted, or None for all.
            timeout_s: the client's own deadline, or None.
            connection: that it came on.
            done: gets the outcome.

        Raises:
            RequestError, QueueFull: see `dispatch.Dispatcher.submit`.
        """
        deadline_s = self._deadline_s
        if timeout_s is not None:
            deadline_s = min(deadline_s, timeout_s)
        self.in_flight += 1
        try:
            self._submit(
                model=model,
                version=parse_version(version),
                inputs=inputs,
                outputs=outputs,
                deadline_s=deadline_s,
                done=done,
                # Until callers are told apart by who they are, each connection is a tenant (T19).
                tenant=str(connection),
            )
        except BaseException:
            self.in_flight -= 1
            raise

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
            raise RequestError(
                f"no model {name[:64]!r}; this mesh serves: {', '.join(sorted(models))}",
                status=404,
            )
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

    def answered_version(self, model: str, version: str) -> str:
        """Return the version that an answer names; "" if we cannot tell which one it was."""
        if not version:
            info = self.models().get(model)
            if info is not None and len(info.versions) == 1:
                return str(info.versions[0])
        return version

    def answered(self, route: str, model: str, status: int, started: float) -> None:
        """Count one answered request, which began at `started` on our clock."""
        seconds = self.clock() - started
        known = model if model in self.models() else ""
        self.metrics.answered(route, known, status, seconds)


def parse_version(text: str) -> int | None:
    """Return the version that `text` says, or None for the newest.

    Raises:
        RequestError: 404; not a whole number.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RequestError("a version is a whole number", status=404)
    return int(text)
