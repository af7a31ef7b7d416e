"""The REST interface where callers have to be known: who asks is settled before what is asked."""

from collections.abc import Callable, Mapping
from typing import Final

from typing_extensions import override

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import Metrics
from wardian.serving.api.call import Call, Desk
from wardian.serving.api.error_answers import answer_error
from wardian.serving.api.routes import Api, FindMore, find_route
from wardian.serving.api.service import Dispatching
from wardian.serving.api.tenancy import KnownCallers
from wardian.serving.frontend_evidence import PATH as ATTESTATION_PATH
from wardian.serving.http.messages import HttpRequest, HttpResponse
from wardian.serving.http.peer import certificate_of
from wardian.serving.http.state import Respond
from wardian.serving.tenants.refusals import TenantRefused
from wardian.serving.tenants.roster import Roster

OPEN_TO_ALL: Final = frozenset({b"/v2/health/live", b"/v2/health/ready", ATTESTATION_PATH.encode()})
"""Paths, in this very spelling, for which nobody has to be known."""
INFERENCES: Final = frozenset({"infer", "predict", "zoo_predict"})
"""Routes that account for themselves when the inference is handed over."""


class TenantApi(Api):
    """Answers whom a tenants list names, and nobody else but that it is there and what it is."""

    known: KnownCallers

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        desk: Desk,
        metrics: Metrics,
        deadline_s: float,
        serves: Callable[[bytes], bool],
        roster: Roster,
        max_open: int,
        clock: Monotonic = monotonic,
        more_routes: FindMore | None = None,
    ) -> None:
        """Serve; see `Api`, and `KnownCallers` for `roster` and `max_open`."""
        super().__init__(
            dispatcher=dispatcher,
            desk=desk,
            metrics=metrics,
            deadline_s=deadline_s,
            serves=serves,
            clock=clock,
            more_routes=more_routes,
        )
        self.service = self.known = KnownCallers(
            dispatcher=dispatcher,
            metrics=metrics,
            deadline_s=deadline_s,
            serves=serves,
            roster=roster,
            max_open=max_open,
            clock=clock,
        )

    def gate(self, headers: Mapping[bytes, bytes], peer: str) -> HttpResponse | None:
        """Return why a large body is not read: nobody here knows who sends it."""
        try:
            self.service.of_caller(headers, peer)
        except TenantRefused as err:
            return answer_error(err)
        return None

    def whose(self, headers: Mapping[bytes, bytes], peer: str) -> str:
        """Return the tenant who sends a request, or "": see `sharing.Whose`."""
        return self.known.callers.name_of(headers, certificate=certificate_of(peer))

    @override
    def handle(self, request: HttpRequest, respond: Respond) -> None:
        call = Call(self.service, self.desk, request, respond)
        try:
            self.service.expect_in_force(request.tls_spki)
            service = call.service
            if request.target.partition(b"?")[0] not in OPEN_TO_ALL:
                service = call.service = service.of_caller(request.headers, request.peer)
            route = find_route(call, self.more_routes)
            if route.name not in INFERENCES:
                service.look()
            response = route.action(call)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            response = answer_error(err)
        if response is not None:
            call.end(response)
