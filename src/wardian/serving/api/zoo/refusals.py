"""How a request of this dialect ends that has no answer: what the original said, with a status.

Everything is found out, logged and referred to as in the other dialects; the words here are the
original's where a client may look for them, and the status is HTTP's for what happened. In the
strict form it is the status that the original sent.
"""

from typing import Final

import msgspec

from wardian.errors import RequestError
from wardian.serving.api.error_answers import answer_error
from wardian.serving.api.zoo.answers import LIMITED, NO_MODEL, text_response
from wardian.serving.api.zoo.form import Form, Origin
from wardian.serving.http.messages import HttpResponse

EXAMPLE: Final = '{"instances": [{"INPUT": [1.0, 2.0]}]}'
NO_INSTANCES: Final = (
    b"Internal Error: no instance can be found, please check your input or "
    b"json(keyword should be 'instances')"
)
"""The strict form of a body that `FrontEndApp` could not read."""


class Unreadable(RequestError):
    """The body holds no instances; 400, or 413 for too much."""


class _Told(msgspec.Struct):
    error: str
    reference: str = ""


_decode = msgspec.json.Decoder(_Told).decode


def answer_refusal(err: BaseException, form: Form) -> HttpResponse:
    """Return the answer to a request that ended in `err`.

    That of gRPC is as in the other dialects: it has a status for each.
    """
    ours = answer_error(err)
    if form.origin is Origin.GRPC:
        return ours
    if ours.status == 404:
        return text_response(NO_MODEL, status=404)
    if ours.status == 429:
        return text_response(LIMITED, status=500 if form.strict else 429, headers=_kept(ours))
    told = _decode(b"".join(ours.body))
    text = told.error
    if isinstance(err, Unreadable):
        if form.strict and form.origin is Origin.APP:
            return text_response(NO_INSTANCES, status=500)
        text = f"{text}; expected for example {EXAMPLE}"
    if told.reference:
        text = f"{text} (reference {told.reference})"
    status = ours.status
    if form.strict and (status >= 500 or isinstance(err, Unreadable)):
        status = 405 if form.origin is Origin.APP else 400
    return text_response(text.encode(), status=status, headers=_kept(ours))


def _kept(ours: HttpResponse) -> bytes:
    """Return the header lines of `ours` without the one that every text of this dialect has."""
    return b"".join(
        line for line in ours.headers.splitlines(keepends=True) if line[:6] != b"Cache-"
    )
