"""The broker's own counter, from what `wardian.toml` says of its keepers to a number that grows.

It belongs to a mesh, whose brokers share the key that they count under, and in it to code of one
measurement, as a counter of the simulation does.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

from wardian._internal.agreed import Counter, Keeper
from wardian._internal.clock import UnixTime
from wardian._internal.counter import MonotonicCounter
from wardian.attestation.appraisal.policy import (
    AdvisoriesWithin,
    AllOf,
    AppraisalPolicy,
    MeasurementIn,
    NotConfigured,
    NotDebug,
    PlatformIn,
    TcbStatusIn,
)
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.claims import TcbStatus
from wardian.broker.counting.quorum import QuorumCounter, QuorumPeer, Step, outcome
from wardian.broker.keeping.keeper_peer import Complete, KeeperPeer, KnownKeeper
from wardian.broker.state.master_key import MasterKey
from wardian.crypto.kdf import hkdf
from wardian.crypto.signing import SigningKey
from wardian.errors import ConfigError, CounterUnavailable, WardianError

ASKER_LABEL: Final = "wardian keeper asker v1"
LATE_S: Final = 0.25
"""How long a keeper may take longer than those that are enough, before it counts as away."""


class OwnCounter:
    """The keepers of one mesh's counter, and the connections to them."""

    __slots__ = ("_peers", "_terms", "_threads", "asker")

    asker: bytes
    """The public key that is counted under."""

    def __init__(
        self,
        terms: Counter,
        addresses: Mapping[str, tuple[str, int]],
        *,
        asker: SigningKey,
        complete: Complete,
        now: UnixTime,
    ) -> None:
        """Count at the keepers of `terms`; nothing is dialled yet.

        Args:
            terms: from the measured `wardian.toml`.
            addresses: from the operator, by the keepers' names; a lie costs service alone.
            asker: of `asker_key`: whose counter it is.
            complete: adds collateral to a keeper's evidence, which has none on hardware.
            now: the clock, Unix seconds.
        """
        self._terms, self.asker = terms, asker.public
        self._peers = tuple(
            KeeperPeer(
                KnownKeeper(
                    name=keeper.name,
                    address=addresses.get(keeper.name),
                    key_sha256=bytes.fromhex(keeper.key),
                    policy=keeper_policy(terms, keeper),
                ),
                asker=asker,
                complete=complete,
                now=now,
            )
            for keeper in terms.keepers
        )
        self._threads = ThreadPoolExecutor(
            max_workers=2 * len(self._peers), thread_name_prefix="keepers"
        )

    def counter(self, measurement: bytes) -> MonotonicCounter:
        """Return the counter of the broker's code of this measurement (32 bytes).

        The first call of its `read` takes it over from any other process that counts.
        """
        peers = [
            QuorumPeer(
                name=keeper.name,
                platform=bytes.fromhex(keeper.platform),
                counter=peer.counter(measurement.hex()),
            )
            for keeper, peer in zip(self._terms.keepers, self._peers, strict=True)
        ]
        return QuorumCounter(peers, put_back=self._terms.put_back, together=self._together).seam

    def close(self) -> None:
        """Close the connections; the counter stays where it is."""
        self._threads.shutdown(wait=True)
        for peer in self._peers:
            peer.close()

    def _together(self, steps: Sequence[Step], enough: int) -> Sequence[int | WardianError]:
        """Do `steps`; once `enough` gave a result, wait for the others only for a moment.

        A keeper that answers late must not hold the broker up: it counts as away for this step.
        What it still does is one step from where it was read, and is refused or found later.
        """
        asked = [self._threads.submit(outcome, step) for step in steps]
        pending = set(asked)
        while pending and sum(_counts(each) for each in asked) < enough:
            _, pending = wait(pending, return_when=FIRST_COMPLETED)
        wait(pending, timeout=LATE_S)
        late = CounterUnavailable("it answers later than those that are enough")
        return [each.result() if each.done() else late for each in asked]


def _counts(asked: "Future[int | WardianError]") -> bool:
    return asked.done() and isinstance(asked.result(), int)


def asker_key(master_key: MasterKey) -> SigningKey:
    """Return the key that the brokers of one mesh count under, wherever they run.

    Whoever has the state's key has it, and nobody else: a broker of the mesh, of whatever code, and
    owners who recover one.
    """
    return SigningKey.from_secret(hkdf(master_key.mesh, salt=b"", info=ASKER_LABEL.encode()))


def keeper_policy(terms: Counter, keeper: Keeper) -> AppraisalPolicy:
    """Return what the evidence of `keeper` has to satisfy: this code, on this very machine."""
    root = keeper.simulation_root_sha256
    return AppraisalPolicy(
        roots=frozenset({INTEL_ROOT_SHA256 if root is None else bytes.fromhex(root)}),
        rule=AllOf(
            NotDebug(),
            MeasurementIn(frozenset(bytes.fromhex(value) for value in terms.measurements)),
            NotConfigured(),
            TcbStatusIn(frozenset(TcbStatus(status) for status in terms.tcb_statuses)),
            AdvisoriesWithin(frozenset(terms.advisories)),
            PlatformIn(frozenset({bytes.fromhex(keeper.platform)})),
        ),
    )


def demand_of_one_kind(terms: Counter, *, simulated: bool) -> None:
    """Return if keepers and broker are all on hardware, or all simulated (TRUST T11).

    Raises:
        ConfigError: they are not.
    """
    if any((keeper.simulation_root_sha256 is not None) != simulated for keeper in terms.keepers):
        raise ConfigError(
            "wardian.toml: the keepers of [counter] and the broker are all on hardware, or all "
            "simulated"
        )
