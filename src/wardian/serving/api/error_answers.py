"""What a client is told when something went wrong.

About its request: everything. About our side: that it was us, and a reference into the log.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

from wardian._internal.log import event
from wardian.errors import (
    FormatError,
    JobFailed,
    QueueError,
    QueueFull,
    RequestError,
    RequestKeyOver,
    Timeout,
    TransportError,
    WardianError,
)
from wardian.serving.http.messages import HttpResponse, error_response
from wardian.serving.sealed_types import KEY_OVER
from wardian.serving.tenants.refusals import TenantRefused

log = logging.getLogger(__name__)

MISDIRECTED: Final = 421
"""Nothing was done, and this connection is of no further use: repeat it on a new one."""

_UNKNOWN: Final = 401


class WrongMethod(RequestError):
    """405, with the methods that there are."""

    def __init__(self, methods: frozenset[bytes]) -> None:
        self.allowed = b", ".join(sorted(methods))
        super().__init__(f"this path takes {self.allowed.decode()}", status=405)


def answer_error(err: BaseException | None) -> HttpResponse:
    """Return the answer to a request that ended in `err`."""
    for kind, answer in _ANSWERS:
        if isinstance(err, kind):
            return answer(err)
    return _answer_bug(err)


def _answer_wrong_method(err: WrongMethod) -> HttpResponse:
    return error_response(405, str(err), headers=b"Allow: %b\r\n" % err.allowed)


def _answer_refused(err: TenantRefused) -> HttpResponse:
    """Answer a caller who is not known, or asks too much (RFC 9110, section 11.6.1)."""
    headers = b'WWW-Authenticate: Bearer realm="wardian"\r\n' if err.status == _UNKNOWN else b""
    return error_response(
        err.status, str(err), code=str(err.why), headers=headers, retry_after_s=err.retry_after_s
    )


def _answer_request_error(err: RequestError) -> HttpResponse:
    retry_after_s = 1 if err.status in (429, 503) else None
    return error_response(
        err.status, str(err), retry_after_s=retry_after_s, close=err.status == MISDIRECTED
    )


def _answer_lost(err: WardianError) -> HttpResponse:
    reference = _log(err, "http.not_carried_out", logging.WARNING)
    said = "the request could not be carried out; try again"
    return error_response(503, said, reference=reference, retry_after_s=1)


def _answer_bug(err: BaseException | None) -> HttpResponse:
    reference = _log(err, "http.internal_error", logging.ERROR)
    return error_response(500, "internal error", reference=reference)


def _log(err: BaseException | None, name: str, level: int) -> str:
    """Return what names the line in the log that says which error it was."""
    reference = secrets.token_hex(8)
    event(log, name, level=level, reference=reference, error=type(err).__name__)
    return reference


_ANSWERS: Final[tuple[tuple[type[Exception], Callable[[Any], HttpResponse]], ...]] = (
    (WrongMethod, _answer_wrong_method),
    (TenantRefused, _answer_refused),
    (RequestKeyOver, lambda err: error_response(err.status, str(err), code=KEY_OVER)),
    (RequestError, _answer_request_error),
    (FormatError, lambda err: error_response(400, str(err))),
    (QueueFull, lambda err: error_response(429, str(err), retry_after_s=err.retry_after_s)),
    (Timeout, lambda err: error_response(504, str(err))),
    (JobFailed, lambda err: error_response(500, str(err), code="inference_failed")),
    (QueueError, _answer_lost),
    (TransportError, _answer_lost),
)
"""The first that fits answers; what fits none is a bug of ours."""
