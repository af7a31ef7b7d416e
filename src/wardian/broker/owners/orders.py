"""What any one owner may have done at once: a new epoch of queue keys, a beacon of time."""

from wardian.broker.authority import Authority
from wardian.broker.owners.offers import unsigned_receipt
from wardian.broker.owners.protocol import Receipt
from wardian.broker.owners.provisioning import OpenedOrder
from wardian.broker.state.clock import (
    MAX_BEACON_AHEAD_S,
    MAX_INSISTED_AHEAD_S,
    agreed_time,
    beacon_change,
)
from wardian.errors import FormatError, PolicyDenied


class Orders:
    """Carries out what owners order. One thread."""

    __slots__ = ("_authority",)

    def __init__(self, authority: Authority) -> None:
        """Change what `authority` holds."""
        self._authority = authority

    def carry_out(self, order: OpenedOrder) -> Receipt:
        """Do what `order` says; return the receipt, not yet signed.

        Args:
            order: message 3, its signature verified.

        Raises:
            TransportError: no manifest is in force, hence nothing to order about.
            FormatError: a beacon without a time, or a time where there is no beacon.
            PolicyDenied: a beacon that is refused; see `_beacon`.
            SealError: it cannot be made durable.
        """
        _ = self._authority.manifest
        if (order.kind == "turn-epoch") is not (order.time is None):
            raise FormatError("order: a beacon says what time it is, and nothing else does")
        if order.time is not None:
            self._beacon(order, order.time)
        else:
            self._authority.turn_epoch(rule="owner-order", owner=order.owner)
        return unsigned_receipt(self._authority)

    def _beacon(self, order: OpenedOrder, time: int) -> None:
        """Take `time` as what this owner says is past.

        It counts at once for this owner's own lines, whose end and whose freshness its owner may
        decide. For all of the mesh (collateral, certificates, other owners' lines) only that counts
        which as many owners vouch for as it takes to change the mesh: one alone ends nothing of the
        others' by naming a year to come, and cannot be undone. The floor is raised once that is
        written down: a time that no line explains would end leases, and be forgotten at a restart.

        Raises:
            SealError: it cannot be made durable; time stays what it was.
            PolicyDenied: `beacon-order` for one before an earlier one of the same owner;
                `beacon-ahead` for one that is far ahead of what the broker takes for the time,
                which may be the owner's mistake or the host's: the owner may insist.
        """
        authority, clock, owner = self._authority, self._authority.clock, order.owner
        before = clock.beacon_of(owner) or 0
        if time < before:
            raise PolicyDenied(
                "this owner has sent a beacon of a later time already", rule="beacon-order"
            )
        most = MAX_BEACON_AHEAD_S if order.kind == "beacon" else MAX_INSISTED_AHEAD_S
        if time > max(clock(), before) + most:
            raise PolicyDenied(
                f"the beacon is more than {most} s ahead of what the broker takes for the time: is "
                "it the owner's clock that is wrong, or the host's?",
                rule="beacon-ahead",
            )
        known = {each: at for each, at in clock.beacons().items() if each in authority.owners}
        agreed = agreed_time(known | {owner: time}, quorum=authority.quorum)
        entry = authority.entry(event="order", outcome="granted", rule="beacon", owner=owner)
        authority.record([entry], beacon_change(owner, time) | clock.raised(agreed or 0))
        clock.raise_to(agreed or 0)
