"""Requests that clients seal past this front end, and the keys to which they do (TRUST T13).

The front end sees the model, the version and the deadline that are asked for, sizes and times.
"""

from typing import TYPE_CHECKING, Final

from wardian._internal import wire
from wardian.crypto.sealed_request import epoch_of_sealed
from wardian.errors import RequestError, RequestKeyOver
from wardian.serving.api.call import Call
from wardian.serving.api.error_answers import answer_error
from wardian.serving.http.messages import NO_STORE, HttpResponse
from wardian.serving.sealed_pack import as_tensors, body_of
from wardian.serving.sealed_types import ANSWER_TYPE, MAX_TIMEOUT_MS, TIMEOUT_HEADER

if TYPE_CHECKING:
    from wardian.serving.dispatch import Outcome

_TIMEOUT: Final = TIMEOUT_HEADER.lower()


def request_key(call: Call) -> HttpResponse:
    """Return what the broker states of a model's request key, in its one form."""
    call.service.model(call.model, "")
    key = call.desk.request_key(call.model)
    return HttpResponse(body=(wire.encode(key),), headers=NO_STORE)


def infer(call: Call) -> None:
    """Hand on one inference that only the model's workers can read.

    Raises:
        RequestKeyOver: it is not of the epoch in force nor of the one before.
        RequestError, FormatError, QueueFull: as of any inference.
    """
    request = call.request
    call.service.model(call.model, call.version)  # what a caller may not ask is not there
    epoch, key = epoch_of_sealed(request.body), call.desk.request_key(call.model)
    if not key.epoch - 1 <= epoch <= key.epoch:
        raise RequestKeyOver(
            f"sealed to a request key of epoch {epoch}, and epoch {key.epoch} is in force: "
            "fetch the key again"
        )
    given = request.headers.get(_TIMEOUT)

    def done(outcome: "Outcome") -> None:
        call.service.over()
        try:
            if outcome.outputs is None:
                call.end(answer_error(outcome.error))
            else:
                body = body_of(outcome.outputs)
                call.end(HttpResponse(body=(body,), content_type=ANSWER_TYPE, headers=NO_STORE))
        except Exception as err:  # noqa: BLE001  the outermost loop: one request, one answer
            call.end(answer_error(err))

    call.service.submit(
        model=call.model,
        version=call.version,
        inputs=as_tensors(request.body),
        outputs=None,
        timeout_s=None if given is None else _parse_timeout(given),
        connection=request.connection,
        done=call.traced(done),
        sealed=True,
    )


def _parse_timeout(given: bytes) -> float:
    """Return the seconds that a client gives its request."""
    if given.isdigit() and len(given) < 10 and 0 < int(given) <= MAX_TIMEOUT_MS:
        return int(given) / 1000
    raise RequestError(
        f"{TIMEOUT_HEADER.decode()}: milliseconds, 1 to {MAX_TIMEOUT_MS}, were expected"
    )
