"""Who sends a request, by what it brings: an API key in a header, or a client certificate.

Looking a digest up tells nobody how much of a guess was right. An unknown caller costs a hash; how
often one address may be told so is limited, so that it fills no log. Whoever is known is served
from that address all the same: a key of 256 bits is not guessed, and neighbours share addresses.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from wardian._internal.log import event
from wardian.serving.http.peer import place_of
from wardian.serving.tenants.account import Account
from wardian.serving.tenants.api_key import TEXT_BYTES, api_key_digest
from wardian.serving.tenants.limits import Allowance, whole_seconds
from wardian.serving.tenants.refusals import TenantRefused, Why
from wardian.serving.tenants.roster import Roster

log = logging.getLogger(__name__)

FAILURES_PER_S: Final = 1.0
FAILURES_AT_ONCE: Final = 20
MAX_ADDRESSES: Final = 4096
"""Of unknown callers that are remembered; the one that was quiet longest is forgotten first."""
_BEARER: Final = b"bearer "


class Callers:
    """Tells callers apart.

    Attributes:
        failures: how many were refused, by why.
    """

    def __init__(self, roster: Roster) -> None:
        """Know those of `roster`."""
        self._roster = roster
        self._addresses: OrderedDict[str, Allowance] = OrderedDict()
        self.failures: dict[Why, int] = {}

    def identify(
        self, headers: Mapping[bytes, bytes], *, certificate: bytes, address: str
    ) -> tuple[bytes, Account]:
        """Return the digest of what the caller brought, and whose it is.

        Args:
            headers: by lower-case name; those that came twice have a comma.
            certificate: SHA-256 of what its connection proved in TLS, or b"".
            address: the IP address at the other end.

        Raises:
            TenantRefused: 401 nobody's; 400 more than one; 429 too often; 503 no list.
        """
        try:
            return self._find(headers, certificate)
        except TenantRefused as err:
            raise self._failed(err, address) from None

    def name_of(self, headers: Mapping[bytes, bytes], *, certificate: bytes) -> str:
        """Return whose request it is, or "" if it is nobody's; see `identify`. Counts nothing."""
        try:
            return self._find(headers, certificate)[1].terms.name
        except TenantRefused:
            return ""

    def _find(self, headers: Mapping[bytes, bytes], certificate: bytes) -> tuple[bytes, Account]:
        digest = _credential(headers) or certificate
        if not digest:
            raise TenantRefused(Why.MISSING)
        account = self._roster.find(digest)
        if account is None:
            raise TenantRefused(Why.UNKNOWN)
        if certificate not in (b"", digest) and self._roster.find(certificate) is not account:
            raise TenantRefused(Why.AMBIGUOUS)
        return digest, account

    def _failed(self, err: TenantRefused, address: str) -> TenantRefused:
        """Return how a caller at `address` is refused that `err` refused."""
        now = self._roster.monotonic()
        known = self._addresses.pop(place := place_of(address), None)
        if known is None:
            known = Allowance(rate=FAILURES_PER_S, burst=FAILURES_AT_ONCE, now=now)
        self._addresses[place] = known
        while len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        wait_s = known.wait_s(now)
        if wait_s:
            err = TenantRefused(Why.TOO_MANY_FAILURES, retry_after_s=whole_seconds(wait_s))
        else:
            known.take()
            event(log, "caller.refused", level=logging.INFO, why=str(err.why))
        self.failures[err.why] = self.failures.get(err.why, 0) + 1
        return err


def _credential(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the digest of the one API key in `headers`, or b"" if there is none.

    Raises:
        TenantRefused: 400 two of them, or one header twice; 401 of another form.
    """
    bearer, bare = headers.get(b"authorization"), headers.get(b"x-api-key")
    if bearer is not None:
        if bare is not None or b"," in bearer:
            raise TenantRefused(Why.AMBIGUOUS)
        if bearer[: len(_BEARER)].lower() != _BEARER:  # RFC 9110, section 11.1: any case
            raise TenantRefused(Why.UNKNOWN)
        bare = bearer[len(_BEARER) :].lstrip(b" ")
    elif bare is None:
        return b""
    elif b"," in bare:
        raise TenantRefused(Why.AMBIGUOUS)
    if len(bare) != TEXT_BYTES:
        raise TenantRefused(Why.UNKNOWN)
    return api_key_digest(bare)
