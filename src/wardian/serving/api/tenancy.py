"""The service where callers have to be known: what each of them sees of it, and what nobody does.

A tenant is served by a `Service` of its own, which has its models and no others, so that no route,
dialect or error can tell of the rest. The models that a tenant may not ask are, for it, not there:
the same words, by the same steps, as for a name that nobody has.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from typing_extensions import override

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import Labels, Metrics
from wardian.errors import RequestError
from wardian.inference.dtypes import BYTES_DTYPE, size_bytes
from wardian.inference.spec import Array, Tensors
from wardian.serving.api.service import CATALOG_AGE_S, Dispatching, Done, Service, no_model
from wardian.serving.catalog import ModelInfo
from wardian.serving.http.peer import certificate_of
from wardian.serving.tenants.account import Account
from wardian.serving.tenants.callers import Callers
from wardian.serving.tenants.refusals import TenantRefused, Why
from wardian.serving.tenants.roster import Roster

SOME_MODEL: Final = "a model"
"""Before somebody who is not known it stands for the names of models."""
_NOT_FOUND: Final = 404


class KnownCallers(Service):
    """Serves whom a tenants list names; by itself it is what somebody unknown sees.

    Attributes:
        dispatcher: does the inferences.
        deadline_s: of each.
        roster: the list in force.
        callers: tells callers apart.
        max_open: inferences of all tenants that may be open.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        metrics: Metrics,
        deadline_s: float,
        serves: Callable[[bytes], bool],
        roster: Roster,
        max_open: int,
        clock: Monotonic = monotonic,
    ) -> None:
        """Serve those of `roster`; the other arguments are those of `routes.Api`.

        `max_open` inferences may be open at a time, and no tenant gets the last of them.
        """
        super().__init__(
            dispatcher=dispatcher,
            metrics=metrics,
            deadline_s=deadline_s,
            serves=serves,
            clock=clock,
        )
        self.dispatcher, self.deadline_s = dispatcher, deadline_s
        self.roster, self.callers, self.max_open = roster, Callers(roster), max_open
        self._services: dict[bytes, TenantService] = {}
        self._of_serial = 0

    @override
    def of_caller(self, headers: Mapping[bytes, bytes], peer: str) -> Service:
        credential, account = self.callers.identify(
            headers, certificate=certificate_of(peer), address=peer
        )
        if self._of_serial != self.roster.serial:  # what is under way keeps the one that it has
            self._services, self._of_serial = {}, self.roster.serial
        service = self._services.get(credential)
        if service is None:
            service = self._services[credential] = TenantService(self, credential, account)
        return service

    @override
    def models(self) -> dict[str, ModelInfo]:
        """Return nothing: who is not known learns of no model."""
        return {}

    def every_model(self) -> dict[str, ModelInfo]:
        """Return every model by name, as it was at most `CATALOG_AGE_S` ago."""
        return super().models()

    @override
    def waiting_models(self) -> list[str]:
        if not self.roster.in_force:
            return ["the tenants list"]
        waits = any(not info.ready for info in self.every_model().values())
        return [SOME_MODEL] if waits else []

    @override
    def look(self) -> None:
        """Return: what is open to all is no more than a yes or a no."""

    @override
    def expect_metrics(self) -> None:
        raise TenantRefused(Why.MISSING)

    @override
    def _begin(self, model: str, inputs: Tensors, connection: int) -> tuple[str, int]:
        raise TenantRefused(Why.MISSING)

    @override
    def _still(self, model: str, connection: int) -> tuple[str, int]:
        raise TenantRefused(Why.MISSING)

    def outcomes(self) -> dict[Labels, float]:
        """Return what became of the inferences of each tenant, for the metrics."""
        return {
            (name, outcome): count
            for name, account in self.roster.accounts()
            for outcome, count in account.outcomes.items()
        }

    def failures(self) -> dict[Labels, float]:
        """Return how many callers were refused for not being known, by why."""
        return {(str(why),): count for why, count in self.callers.failures.items()}


class TenantService(Service):
    """What one credential of one tenant is served with."""

    def __init__(self, whole: KnownCallers, credential: bytes, account: Account) -> None:
        """Serve whoever has `credential` (its SHA-256), which is `account`'s."""
        super().__init__(
            dispatcher=whole.dispatcher,
            metrics=whole.metrics,
            deadline_s=whole.deadline_s,
            serves=whole.serves,
            clock=whole.clock,
            tracer=whole.tracer,
        )
        self._whole, self._credential, self._account = whole, credential, account
        self._terms, self._serial = account.terms, whole.roster.serial

    @override
    def models(self) -> dict[str, ModelInfo]:
        """Return the models of the mesh that this tenant may ask, by name."""
        now, terms = self.clock(), self._account.terms
        if now - self._infos_at >= CATALOG_AGE_S or terms is not self._terms:
            every = self._whole.every_model()
            self._infos = every if terms.all else _among(every, terms.models)
            self._infos_at, self._terms = now, terms
        return self._infos

    @override
    def look(self) -> None:
        self._account.look(self._whole.roster.monotonic())

    @override
    def expect_metrics(self) -> None:
        if not self._account.terms.metrics:
            raise RequestError("this tenant may not read the metrics", status=403)

    @override
    def over(self) -> None:
        self._account.end()
        self._whole.in_flight -= 1

    @override
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
        try:
            super().submit(
                model=model,
                version=version,
                inputs=inputs,
                outputs=outputs,
                timeout_s=timeout_s,
                connection=connection,
                done=done,
                sealed=sealed,
            )
        except RequestError as err:
            self._hide_others(err, model, version)
            raise

    @override
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
        try:
            super().go_on(
                model=model,
                version=version,
                inputs=inputs,
                timeout_s=timeout_s,
                connection=connection,
                done=done,
            )
        except RequestError as err:
            self._hide_others(err, model, version)
            raise

    def _hide_others(self, err: RequestError, model: str, version: str) -> None:
        """Raise in the place of `err` what does not name models that are others' to know."""
        if err.status == _NOT_FOUND:
            self._infos_at = -CATALOG_AGE_S
            self.model(model, version)

    @override
    def _still(self, model: str, connection: int) -> tuple[str, int]:
        roster = self._whole.roster
        if self._serial != roster.serial or roster.now() >= roster.ends_at:
            self._expect_known()
        models = self.models()
        if model not in models:
            raise no_model(model, models)
        return self._account.terms.name, self._account.terms.weight

    @override
    def _begin(self, model: str, inputs: Tensors, connection: int) -> tuple[str, int]:
        whole, account = self._whole, self._account
        roster = whole.roster
        unix_s, now = roster.now(), roster.monotonic()
        if self._serial != roster.serial or unix_s >= roster.ends_at:
            self._expect_known()
        account.look(now)
        models = self.models()
        if model not in models:
            raise no_model(model, models)
        sized = account.terms.max_bytes_per_s is not None
        account.begin(
            sum(map(_size, inputs.values())) if sized else 0,
            now=now,
            unix_s=unix_s,
            room=whole.max_open - whole.in_flight,
        )
        whole.in_flight += 1
        return account.terms.name, account.terms.weight

    def _expect_known(self) -> None:
        """Return if the credential is still its account's: the list may have changed or ended.

        Raises:
            TenantRefused: it is not, or there is no list any more.
        """
        roster = self._whole.roster
        if roster.find(self._credential) is not self._account:
            raise TenantRefused(Why.UNKNOWN)
        self._serial = roster.serial


def _among(models: Mapping[str, ModelInfo], allowed: Collection[str]) -> dict[str, ModelInfo]:
    return {name: info for name, info in models.items() if name in allowed}


def _size(array: Array) -> int:
    return array.nbytes if array.dtype is not BYTES_DTYPE else size_bytes(array)
