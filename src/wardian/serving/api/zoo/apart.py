"""Cluster Serving's paths by themselves: no other dialect, and no evidence.

They are served so where the operator holds the key of the server's certificate. Evidence about such
a key would say that an enclave alone has it, so nothing here can make or show any.
"""

from collections.abc import Callable
from typing import Final, NoReturn
from urllib.parse import unquote

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import CONTENT_TYPE, Metrics
from wardian.errors import RequestError
from wardian.serving.api.call import Call, Route
from wardian.serving.api.error_answers import WrongMethod, answer_error
from wardian.serving.api.service import Dispatching, Service
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.http.messages import NO_STORE, HttpRequest, HttpResponse
from wardian.serving.http.state import Respond

_GET: Final = frozenset({b"GET", b"HEAD"})
_METRICS: Final = "/metrics"


class ZooApi:
    """Answers the paths of `ZooRoutes`, and `/metrics`."""

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        routes: ZooRoutes,
        metrics: Metrics,
        deadline_s: float,
        clock: Monotonic = monotonic,
    ) -> None:
        """Serve whoever connects.

        Args:
            dispatcher: does the inferences.
            routes: the paths.
            metrics: counts.
            deadline_s: within which every inference has its answer.
            clock: monotonic seconds, for durations.
        """
        self._service = Service(
            dispatcher=dispatcher,
            metrics=metrics,
            deadline_s=deadline_s,
            serves=lambda _: True,  # this key is of no manifest, so none ends it
            clock=clock,
        )
        self._find = routes.find
        self._desk = _NoDesk()
        self._metrics = Route(
            name="metrics", methods=_GET, action=_show_metrics, summary="", answers={200: ""}
        )

    @property
    def in_flight(self) -> int:
        """Inferences accepted and not yet answered."""
        return self._service.in_flight

    def handle(self, request: HttpRequest, respond: Respond) -> None:
        """Answer `request` through `respond`, now or later; never raises."""
        call = Call(self._service, self._desk, request, respond)
        try:
            response = self._route(call).action(call)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            response = answer_error(err)
        if response is not None:
            call.end(response)

    def _route(self, call: Call) -> Route:
        """Return the route of `call`.

        Raises:
            RequestError: 404, 405.
        """
        path, _, call.query = call.request.target.partition(b"?")
        text = unquote(path.decode("latin-1"), errors="replace")
        route = self._metrics if text == _METRICS else self._find(call, text.split("/"))
        if route is None:
            raise RequestError("no such path; see / and /models", status=404)
        call.route = route.name
        if call.request.method not in route.methods:
            raise WrongMethod(route.methods)
        return route


class _NoDesk:
    """Shows nothing about an enclave."""

    def answer(
        self,
        nonce: bytes,
        *,
        tls_spki: bytes,
        connection: int,
        done: Callable[[HttpResponse], None],
    ) -> None:
        """Refuse."""
        del nonce, tls_spki, connection, done
        self.request_key("")

    def request_key(self, model: str) -> NoReturn:
        """Refuse."""
        del model
        raise RequestError("no enclave has the key of this server alone", status=404)


def _show_metrics(call: Call) -> HttpResponse:
    return HttpResponse(
        body=(call.service.metrics.render(),), content_type=CONTENT_TYPE, headers=NO_STORE
    )
