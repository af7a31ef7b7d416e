"""The tenants list in force: which credential is whose, until when."""

from collections.abc import Iterator

from wardian._internal.clock import Monotonic, UnixTime
from wardian.errors import PolicyDenied
from wardian.serving.tenants.account import Account
from wardian.serving.tenants.api_key import api_key_digest
from wardian.serving.tenants.refusals import TenantRefused, Why
from wardian.serving.tenants.verify import VerifiedTenants


class Roster:
    """Who is known. Nobody, until a list is adopted, and again when it ends.

    Attributes:
        open: inferences of all tenants that are accepted and unanswered.
        serial: of the newest list that was ever in force in this process; 0 before the first.
        ends_at: the first second (Unix) at which the list in force is so no more; 0 before one.
        certificates: DER, of all tenants of it.
    """

    def __init__(self, *, now: UnixTime, monotonic: Monotonic) -> None:
        """Know nobody yet.

        Args:
            now: Unix seconds; see `source.FloorClock`.
            monotonic: seconds, for rates.
        """
        self.now, self.monotonic = now, monotonic
        self.open = 0
        self.serial = 0
        self.certificates: tuple[bytes, ...] = ()
        self._digest = b""
        self.ends_at = 0
        self._accounts: dict[str, Account] = {}
        self._by_credential: dict[bytes, Account] = {}

    def adopt(self, verified: VerifiedTenants) -> bool:
        """Put `verified` in force, from the next request on; False if it is in force already.

        A tenant that was there before has used what it used. The inferences that are under way go
        on, whoever is gone.

        Raises:
            PolicyDenied: the rule `tenants-serial`: an older list, or another one of one serial.
        """
        tenants = verified.tenants
        if tenants.serial == self.serial and verified.digest == self._digest:
            return False
        if tenants.serial <= self.serial:
            raise PolicyDenied(
                "the tenants list is not newer than the one that was in force",
                rule="tenants-serial",
            )
        now, by_credential = self.monotonic(), {}
        for terms in tenants.tenants:
            account = self._accounts.get(terms.name)
            if account is None:
                account = self._accounts[terms.name] = Account(terms, now=now)
            else:
                account.use(terms, now=now)
            for key in terms.keys:
                by_credential[bytes.fromhex(key)] = account
            for certificate in terms.certificates:
                by_credential[certificate_digest(certificate)] = account
        self._by_credential = by_credential
        self.serial, self._digest, self.ends_at = tenants.serial, verified.digest, verified.ends_at
        self.certificates = tuple(each for terms in tenants.tenants for each in terms.certificates)
        return True

    @property
    def in_force(self) -> bool:
        """Whether a list is."""
        return self.now() < self.ends_at

    @property
    def left_s(self) -> int:
        """For how many seconds the list in force still is; 0: there is none."""
        return max(0, self.ends_at - self.now())

    def find(self, credential: bytes) -> Account | None:
        """Return whose credential has the SHA-256 `credential` (32 bytes), or None.

        Raises:
            TenantRefused: 503; no list is in force.
        """
        if self.now() >= self.ends_at:
            raise TenantRefused(Why.NO_LIST, retry_after_s=10)
        return self._by_credential.get(credential)

    def accounts(self) -> Iterator[tuple[str, Account]]:
        """Yield every tenant that this process ever knew, by name."""
        yield from self._accounts.items()


def certificate_digest(certificate: bytes) -> bytes:
    """Return by which a certificate (DER) is looked up: SHA-256, 32 bytes.

    A certificate is longer than the text of an API key, so none has the digest of the other.
    """
    return api_key_digest(certificate)
