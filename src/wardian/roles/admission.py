"""How front ends and workers get into the mesh: on evidence, from a broker that they verify."""

import logging
import secrets

from wardian._internal.agreed import Agreed
from wardian._internal.clock import unix_time
from wardian._internal.log import event
from wardian.broker.lease import Lease, Moment, elapsed
from wardian.broker.release.admission import Admission
from wardian.broker.release.client import obtain
from wardian.broker.release.in_force import InForce, ask_in_force
from wardian.roles.asking import Addresses, patiently
from wardian.roles.host import Address, HostSettings
from wardian.tee.backend import Enclave

log = logging.getLogger(__name__)


def moment() -> Moment:
    """Return what both clocks show."""
    return Moment(ticks=elapsed(), now=unix_time())


def chance() -> float:
    """Return a random number from 0 to 1, by which processes avoid to act all at once."""
    return secrets.SystemRandom().random()


class Brokers:
    """The brokers of the mesh, as one process asks them for its admission."""

    def __init__(
        self,
        enclave: Enclave,
        host: HostSettings,
        agreed: Agreed,
        *,
        role: str,
        models: tuple[str, ...],
    ) -> None:
        """Ask for this process, and for access to Redis where its queue is one.

        Args:
            enclave: makes its evidence.
            host: says where brokers and queue are; a lie costs service and nothing else.
            agreed: the measured `wardian.toml`.
            role: what this process is.
            models: whose keys it asks for.

        Raises:
            ConfigError: `host` names no broker.
        """
        self._enclave, self._names, self._agreed = enclave, host.names, agreed
        self._role, self._models = role, models
        self._addresses = Addresses(host.brokers)
        self._queue_access = bool(host.redis)

    async def admit(self, *, renews: Admission | None = None) -> tuple[Admission, Lease]:
        """Return this process's certificate and keys, given on evidence of what it is.

        Args:
            renews: the admission of before, if there was one: then a certificate and queue keys are
                asked for and nothing else, of a broker whose audit log goes on from there.

        Raises:
            AdmissionRefused: a broker that was verified does not admit it.
            PolicyDenied, AttestationError, CryptoError: we refuse the broker, or it us.
            TransportError: no broker answered.
        """
        return await self._addresses.first(lambda address: self._admit_at(address, renews))

    async def in_force(self, admission: Admission) -> InForce:
        """Return what is in force now; see `ask_in_force` for what it raises."""
        return await self._addresses.first(
            lambda address: ask_in_force(address, admission=admission, now=unix_time)
        )

    async def admitted(self) -> tuple[Admission, Lease]:
        """Return the first admission; who has no manifest yet, or is not there, is asked again.

        Raises:
            TransportError: nobody admitted it within a minute. For the rest see `admit`.
        """
        admission, lease = await patiently(self.admit)
        event(
            log,
            "role.admitted",
            manifest_version=admission.manifest.manifest.version,
            epoch=admission.epoch,
            simulated=self._enclave.simulated,
        )
        return admission, lease

    async def _admit_at(
        self, address: Address, renews: Admission | None
    ) -> tuple[Admission, Lease]:
        asked_at = moment()
        admission = await obtain(
            address,
            role=self._role,
            models=self._models,
            agreed=self._agreed,
            attest=self._enclave.evidence,
            tee=self._enclave.name,
            names=self._names,
            now=unix_time,
            renewal=renews is not None,
            seen=None if renews is None else renews.witnessed.head.audit,
            queue_access=self._queue_access,
        )
        lease = Lease.begin(
            asked_at,
            life_s=self._agreed.mesh.lease_s,
            ends_at=admission.valid_until,
            chance=chance(),
        )
        return admission, lease
