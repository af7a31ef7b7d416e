"""The paths of Cluster Serving's two HTTP front ends, `Frontend2` and `FrontEndApp`.

`Frontend2` had one model and `/predict`; `FrontEndApp` had several below `/models`. Here both are
there at once, over the same models, callers, limits and counts as the other dialects. `/metrics` is
this front end's own.
"""

from collections.abc import Callable, Mapping
from typing import Final

from wardian._internal.agreed import ModelTerms, ZooDialect
from wardian._internal.steps import ImageStep
from wardian.errors import WardianError
from wardian.serving.api.call import Action, Call, Route
from wardian.serving.api.zoo.answers import WELCOME, text_response
from wardian.serving.api.zoo.form import Form, Origin
from wardian.serving.api.zoo.listing import Listing, plain_version
from wardian.serving.api.zoo.prediction import predict
from wardian.serving.api.zoo.refusals import answer_refusal
from wardian.serving.http.messages import HttpResponse

NO_SECRETS: Final = (
    b"no front end takes the secrets of models: seal the model with `wardian reseal`; its key is "
    b"released by the broker, to attested workers alone"
)
_GET: Final = frozenset({b"GET", b"HEAD"})
_POST: Final = frozenset({b"POST"})
_BELOW_MODELS: Final = ("", "models", "*", "versions", "*", "predict")


class ZooRoutes:
    """Finds the routes of this dialect; they are made once."""

    def __init__(self, terms: ZooDialect, *, models: Mapping[str, ModelTerms]) -> None:
        """Serve the mesh's `models` as `terms` say."""
        strict, arrow = terms.compat == "strict", terms.model_answers == "arrow"
        self._default = terms.default_model or (next(iter(models)) if len(models) == 1 else "")
        self._images = image_inputs(models)
        self._single = Form(origin=Origin.SINGLE, strict=strict, arrow=True)
        self._app = Form(origin=Origin.APP, strict=strict, arrow=arrow)
        self._routes = self._make_routes(Listing("direct" if arrow else "instance"))

    def find(self, call: Call, parts: list[str]) -> Route | None:
        """Return the route of a path of these `parts`, and set the model and version of `call`."""
        if len(parts) > 2 and not parts[-1]:
            parts = parts[:-1]
        call.model = call.version = ""
        if len(parts) < 3 or parts[1] != "models":
            return self._routes.get("/".join(parts))
        pattern = _BELOW_MODELS[: len(parts)]
        if len(parts) > len(pattern) or any(
            wanted not in ("*", part) for wanted, part in zip(pattern, parts, strict=True)
        ):
            return None
        call.model = parts[2]
        call.version = parts[4] if len(parts) > 4 else ""
        return self._routes.get("/".join(pattern))

    def _make_routes(self, listing: Listing) -> dict[str, Route]:
        told, app = self._told, self._app
        routes = {
            "/": _route("zoo_home", _GET, _home),
            "/models": _route("zoo_models", _GET, told(listing.all, app)),
            "/models/*": _route("zoo_model", _GET, told(listing.model, app)),
            "/models/*/versions/*": _route("zoo_version", _GET, told(listing.version, app)),
            "/models/*/versions/*/predict": _route("zoo_predict", _POST, told(self._predict, app)),
            "/model-secure": _route("zoo_secure", _POST, _refuse_secrets),
        }
        if self._default:
            action = told(self._predict_default, self._single)
            routes["/predict"] = _route("zoo_predict", _POST, action)
        return routes

    def _told(self, action: Callable[[Call], HttpResponse | None], form: Form) -> Action:
        """Return `action` with this dialect's words for what goes wrong in it."""

        def act(call: Call) -> HttpResponse | None:
            try:
                if call.version:
                    call.version = plain_version(call.version)
                return action(call)
            except WardianError as err:
                return answer_refusal(err, form)

        return act

    def _predict_default(self, call: Call) -> HttpResponse | None:
        call.model = self._default
        return self._answer(call, self._single)

    def _predict(self, call: Call) -> HttpResponse | None:
        return self._answer(call, self._app)

    def _answer(self, call: Call, form: Form) -> HttpResponse | None:
        request = call.request
        return predict(
            call,
            form,
            request.body,
            images=self._images.get(call.model, frozenset()),
            connection=request.connection,
        )


def image_inputs(models: Mapping[str, ModelTerms]) -> dict[str, frozenset[str]]:
    """Return by model which of its inputs take the bytes of a picture."""
    return {
        name: frozenset(step.input for step in of.pre if isinstance(step, ImageStep))
        for name, of in models.items()
    }


def _home(_call: Call) -> HttpResponse:
    return text_response(WELCOME)


def _refuse_secrets(_call: Call) -> HttpResponse:
    return text_response(NO_SECRETS, status=403)


def _route(name: str, methods: frozenset[bytes], action: Action) -> Route:
    return Route(name=name, methods=methods, action=action, summary="", answers={200: ""})
