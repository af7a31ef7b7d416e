"""What a client of this dialect may see of the models, in the words of `servables.yaml`.

Of a servable's members those are there that mean something here: there is no Redis to name, no
window, no token.
"""

from typing import Final

from wardian.errors import RequestError
from wardian.serving.api.call import Call
from wardian.serving.api.zoo.answers import Printed, pretty, text_response
from wardian.serving.catalog import ModelInfo
from wardian.serving.http.messages import HttpResponse

_KIND: Final = "ClusterServingMetaData"
"""Models were of this kind, or ran within the front end; here they never do."""


class Listing:
    """Lists models; `compile_type` is said of each: "instance" or "direct"."""

    def __init__(self, compile_type: str) -> None:
        self._compile_type = compile_type

    def all(self, call: Call) -> HttpResponse:
        """Return every version of every model."""
        infos = call.service.models().values()
        return _listed([each for info in infos for each in self._versions(info)])

    def model(self, call: Call) -> HttpResponse:
        """Return every version of one model.

        Raises:
            RequestError: 404.
        """
        return _listed(self._versions(call.service.model(call.model, "")))

    def version(self, call: Call) -> HttpResponse:
        """Return one version of one model.

        Raises:
            RequestError: 404.
        """
        info = call.service.model(call.model, call.version)
        entry = {"type": _KIND, **self._entry(info, int(call.version))}
        return text_response(pretty(entry).encode())

    def _versions(self, info: ModelInfo) -> list[dict[str, Printed]]:
        return [self._entry(info, version) for version in info.versions]

    def _entry(self, info: ModelInfo, version: int) -> dict[str, Printed]:
        return {
            "modelName": info.name,
            "modelVersion": str(version),
            "inputCompileType": self._compile_type,
            "features": [spec.name for spec in info.inputs],
        }


def plain_version(text: str) -> str:
    """Return the version that `text` says, which there often was spelt `1.0`.

    Raises:
        RequestError: 404; no version can be called so.
    """
    number = text.removesuffix(".0")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise RequestError("a version is a whole number", status=404)
    return number


def _listed(entries: list[dict[str, Printed]]) -> HttpResponse:
    return text_response(pretty(entries).encode())
