"""Which counter says what state of a broker is the newest: keepers, or in a simulation a file."""

from typing import Final

from wardian._internal.agreed import Counter
from wardian._internal.clock import unix_time
from wardian._internal.counter import CounterKeeper, MonotonicCounter
from wardian.attestation.collateral.source import CollateralSource
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.quotes.quote import parse_quote
from wardian.broker.keeping.own_counter import OwnCounter, asker_key, demand_of_one_kind
from wardian.broker.state.master_key import MasterKey
from wardian.errors import CollateralUnavailable, ConfigError
from wardian.roles.host import Address
from wardian.tee.backend import Enclave

FILE_COUNTER: Final = "store"


class Counting:
    """The counter of this broker's state. One thread."""

    __slots__ = ("_addresses", "_collateral", "_enclave", "_keepers", "_terms", "measurement")

    measurement: bytes
    """Of this very code, 32 bytes."""

    def __init__(
        self,
        enclave: Enclave,
        terms: Counter | None,
        addresses: dict[str, Address],
        *,
        collateral: CollateralSource,
    ) -> None:
        """Count as the measured `wardian.toml` says.

        Args:
            enclave: the TEE that this process runs in.
            terms: `[counter]`; None only where the TEE is simulated (TRUST T5).
            addresses: where the operator says that the keepers listen, by name.
            collateral: completes the keepers' evidence.

        Raises:
            ConfigError: there are no keepers, and this is hardware; or they are of another kind.
        """
        if terms is None and not enclave.simulated:
            raise ConfigError(
                "wardian.toml: name the keepers of the broker's counter in [counter]: on hardware "
                "nothing else tells its newest state from an older one "
                "(docs/how-to/keep-the-counter.md)"
            )
        if terms is not None:
            demand_of_one_kind(terms, simulated=enclave.simulated)
        self._enclave, self._terms, self._addresses = enclave, terms, addresses
        self._collateral = collateral
        self._keepers: OwnCounter | None = None
        own = enclave.evidence(bind(Purpose.BROKER, b"self"))
        self.measurement = parse_quote(own.quote).report.measurement

    def counter(self, master_key: MasterKey) -> MonotonicCounter:
        """Return the counter of the state under `master_key`, which all brokers of it share."""
        if self._terms is None:
            return MonotonicCounter(
                read=lambda: self._enclave.read_counter(FILE_COUNTER),
                advance=lambda to: self._enclave.advance_counter(FILE_COUNTER, to),
                kept_by=CounterKeeper.HOST,
            )
        asker = asker_key(master_key)
        if self._keepers is None or self._keepers.asker != asker.public:
            self.close()
            self._keepers = OwnCounter(
                self._terms,
                self._addresses,
                asker=asker,
                complete=self._complete,
                now=unix_time,
            )
        return self._keepers.counter(self.measurement)

    def close(self) -> None:
        """Close the connections to the keepers, if there are any."""
        if self._keepers is not None:
            self._keepers.close()
            self._keepers = None

    def _complete(self, evidence: Evidence, roots: frozenset[bytes], now: int) -> Evidence:
        """Return `evidence` with what collateral can be had; without any it is refused later."""
        try:
            return self._collateral.complete(evidence, roots=roots, now=now)
        except CollateralUnavailable:
            return evidence
