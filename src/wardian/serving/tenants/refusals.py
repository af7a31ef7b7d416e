"""Why a caller is refused: a closed set, each with a status, a word for programs and a text."""

import enum

from wardian.errors import RequestError


class Why(enum.StrEnum):
    """The words; those of limits are labels of a metric by tenant."""

    MISSING = "no_credentials"
    UNKNOWN = "unknown_credentials"
    AMBIGUOUS = "ambiguous_credentials"
    TOO_MANY_FAILURES = "too_many_failures"
    NO_LIST = "no_tenants_list"
    RATE = "rate_limited"
    OPEN = "too_many_open"
    SHARE = "share_taken"
    BYTES = "bytes_limited"
    QUOTA = "quota_exhausted"


_SAID = {
    Why.MISSING: (401, "an API key (Authorization: Bearer) or a client certificate is needed"),
    Why.UNKNOWN: (401, "nobody here is known by this API key or certificate"),
    Why.AMBIGUOUS: (400, "exactly one API key was expected, in one header, and of one tenant"),
    Why.TOO_MANY_FAILURES: (429, "too many unknown callers from this address"),
    Why.NO_LIST: (503, "no tenants list is in force here, so nobody is served"),
    Why.RATE: (429, "more requests a second than this tenant may make"),
    Why.OPEN: (429, "as many requests of this tenant are unanswered as may be"),
    Why.SHARE: (429, "this tenant holds its share of what may wait here; try again shortly"),
    Why.BYTES: (429, "more bytes a second than this tenant may send"),
    Why.QUOTA: (429, "this tenant has made its requests of today"),
}


class TenantRefused(RequestError):
    """A caller is not known, or may not ask so much.

    Attributes:
        why: which of the closed set.
        retry_after_s: when asking again makes sense, or None.
    """

    def __init__(self, why: Why, *, retry_after_s: int | None = None) -> None:
        """Refuse for `why`; the text is the same for everybody."""
        status, text = _SAID[why]
        super().__init__(text, status=status)
        self.why = why
        self.retry_after_s = retry_after_s
