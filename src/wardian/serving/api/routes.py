"""From a request to the route that serves it, and from whatever goes wrong to an answer.

Every error is `{"error": text, "code": word}`: the text says what was wrong and what was expected,
the word is one of a closed set. What went wrong on our side is told to the log, and to the client
only as a reference into it.

One inference is: find the route, decode (`oip`, `predict`), `Dispatching.submit`, and when its
outcome comes, encode and respond. No task, no thread, no copy of a tensor.
"""

from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import unquote

from wardian._internal.clock import Monotonic, monotonic
from wardian._internal.metrics import Metrics
from wardian.errors import RequestError
from wardian.serving.api.call import Call, Desk, Route
from wardian.serving.api.error_answers import WrongMethod, answer_error
from wardian.serving.api.service import Dispatching, Service
from wardian.serving.api.table import ROUTES
from wardian.serving.http.messages import HttpRequest
from wardian.serving.http.state import Respond
from wardian.serving.packing import moved_error

_PATHS: Final = ", ".join(ROUTES).replace("*", "NAME")

FindMore: TypeAlias = Callable[[Call, list[str]], Route | None]
"""Returns the route, if there is one, of a call whose path has these parts, and is none of ours;
sets the call's model and version."""


class Api:
    """The front end's REST interface over a dispatcher and an evidence desk.

    Attributes:
        service: models and inferences, which other dialects may share.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatching,
        desk: Desk,
        metrics: Metrics,
        deadline_s: float,
        serves: Callable[[bytes], bool],
        clock: Monotonic = monotonic,
        more_routes: FindMore | None = None,
    ) -> None:
        """Serve.

        Args:
            dispatcher: does the inferences.
            desk: makes the evidence.
            metrics: counts.
            deadline_s: within which every inference has its answer; a client may ask for less.
            serves: whether connections to a server key are of the manifest in force. On others
                nothing is answered but the status 421: their clients accepted another mesh.
            clock: monotonic seconds, for durations.
            more_routes: finds those of another dialect.
        """
        self.more_routes = more_routes
        self.service = Service(
            dispatcher=dispatcher,
            metrics=metrics,
            deadline_s=deadline_s,
            serves=serves,
            clock=clock,
        )
        self.desk = desk

    @property
    def in_flight(self) -> int:
        """Inferences accepted and not yet answered."""
        return self.service.in_flight

    def handle(self, request: HttpRequest, respond: Respond) -> None:
        """Answer `request` through `respond`, now or later; never raises."""
        call = Call(self.service, self.desk, request, respond)
        try:
            response = find_route(call, self.more_routes).action(call)
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            response = answer_error(err)
        if response is not None:
            call.end(response)


def find_route(call: Call, more_routes: FindMore | None = None) -> Route:
    """Return the route of `call`, whose model, version and query are then set.

    Args:
        call: whose path is looked up.
        more_routes: asked for what is not here.

    Raises:
        RequestError: 404, 405, or 421 on a connection of a manifest of before.
    """
    request = call.request
    if not call.service.serves(request.tls_spki):
        raise moved_error()
    path, _, call.query = request.target.partition(b"?")
    text = path.decode("latin-1")
    if "%" in text:
        text = unquote(text, errors="replace")
    parts = text.split("/")
    if len(parts) > 3 and parts[2] == "models":
        text = _model_path(parts, call)
    elif len(parts) == 6 and parts[2:4] == ["repository", "models"]:
        call.model, parts[4] = parts[4], "*"
        text = "/".join(parts)
    route = ROUTES.get(text) or ROUTES.get(text.rstrip("/"))
    if route is None and more_routes is not None:
        route = more_routes(call, parts)
    if route is None:
        raise RequestError(f"no such path; see {_PATHS}", status=404)
    call.route = route.name
    if request.method not in route.methods:
        raise WrongMethod(route.methods)
    return route


def _model_path(parts: list[str], call: Call) -> str:
    """Return the route's pattern for a path below `/vN/models/`, and set model and version."""
    model = parts[3]
    if parts[1] == "v1":
        below = "".join(f"/{part}" for part in parts[4:])
        call.model, colon, action = model.rpartition(":") if ":" in model else (model, "", "")
        return f"/v1/models/*{colon}{action}{below}"
    call.model = model
    rest = parts[4:]
    if len(rest) > 1 and rest[0] == "versions":
        call.version = rest[1]
        rest = rest[2:]
    return "/".join([parts[0], parts[1], "models/*", *rest])
