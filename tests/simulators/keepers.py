"""Keepers of counters in threads of their own, each on a simulated machine of its own."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from simulators.two_brokers import Loop, free_port
from toy_mesh import NOW, digest

from wardian._internal.agreed import Counter, Keeper
from wardian._internal.clock import monotonic
from wardian.attestation.evidence import Evidence
from wardian.broker.keeping.keeper_link import KeeperLink, Shown
from wardian.broker.keeping.keeper_peer import KeeperPeer, KnownKeeper
from wardian.broker.keeping.ledger import Ledger
from wardian.broker.keeping.own_counter import OwnCounter, keeper_policy
from wardian.broker.keeping.service import KeeperService
from wardian.crypto.signing import SigningKey
from wardian.errors import SealError
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

CODE = digest("keeper")


class ToySealing:
    """Seals for whom and under which label, without a secret."""

    def __init__(self, owner: bytes) -> None:
        self.owner = owner

    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        return self.owner + label.encode() + b"|" + plaintext

    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        prefix = self.owner + label.encode() + b"|"
        if not sealed.startswith(prefix):
            raise SealError("altered, or sealed by others")
        return sealed.removeprefix(prefix)


class ToyKeeper:
    """One keeper: its machine, its files, and the process that may run or not."""

    def __init__(self, name: str, directory: Path, *, code: bytes = CODE) -> None:
        self.name, self.path, self.code = name, directory / name, code
        self.path.mkdir()
        self.platform: SimulatedPlatform = generate_platform(clock=lambda: NOW)
        self.port = free_port()
        self.loop: Loop | None = None
        self.service: KeeperService | None = None
        self.quotes = 0
        self.start()

    def start(self, **more: Any) -> None:
        self.loop = Loop()
        sealing = ToySealing(self.code + self.platform.ppid)
        ledger = Ledger(self.path, sealing=sealing, ticks=monotonic)
        self.key_sha256 = hashlib.sha256(ledger.key.spki).digest()

        async def begin() -> KeeperService:
            service = KeeperService(
                ledger, attest=self.attest, clock=lambda: NOW, ticks=monotonic, **more
            )
            await service.start("127.0.0.1", self.port)
            return service

        self.service = self.loop.run(begin())

    def stop(self) -> None:
        if self.loop is not None and self.service is not None:
            self.loop.run(self.service.aclose())
            self.loop.close()
        self.loop = self.service = None

    def attest(self, report_data: bytes) -> Evidence:
        self.quotes += 1
        return self.platform.evidence(mr_enclave=self.code, report_data=report_data)

    def saved(self, place: Path) -> Path:
        """Return a copy of its files as they are now."""
        return Path(shutil.copytree(self.path, place))

    def put_back(self, saved: Path) -> None:
        """Let its host restore the files of before, under a process that it starts anew."""
        self.stop()
        shutil.rmtree(self.path)
        shutil.copytree(saved, self.path)
        self.start()


def line_of(keeper: ToyKeeper, **changes: str) -> Keeper:
    """Return what `wardian.toml` says of `keeper`."""
    fields = {
        "name": keeper.name,
        "key": keeper.key_sha256.hex(),
        "platform": keeper.platform.ppid.hex(),
        "simulation_root_sha256": keeper.platform.root_sha256.hex(),
    }
    return Keeper(**(fields | changes))


def terms_of(*keepers: ToyKeeper, put_back: int = 0) -> Counter:
    return Counter(
        keepers=tuple(line_of(keeper) for keeper in keepers),
        measurements=(CODE.hex(),),
        put_back=put_back,
    )


def terms_around(keeper: ToyKeeper, *, code: bytes = CODE, **changes: str) -> Counter:
    """Return terms with `keeper`, and two that nobody ever asks."""
    line = line_of(keeper, **changes)
    absent = (
        Keeper(
            name=f"absent-{number}",
            key=bytes([number]).hex() * 32,
            platform=bytes([number]).hex() * 16,
            simulation_root_sha256=line.simulation_root_sha256,
        )
        for number in (1, 2)
    )
    return Counter(keepers=(line, *absent), measurements=(code.hex(),))


def as_it_is(evidence: Evidence, _: frozenset[bytes], __: int) -> Evidence:
    return evidence


def known(terms: Counter, keeper: ToyKeeper, **changes: Any) -> KnownKeeper:
    named = next(each for each in terms.keepers if each.name == keeper.name)
    fields = {
        "name": keeper.name,
        "address": ("127.0.0.1", keeper.port),
        "key_sha256": bytes.fromhex(named.key),
        "policy": keeper_policy(terms, named),
    }
    return KnownKeeper(**(fields | changes))


PEERS: list[KeeperPeer] = []
"""Those that `peer_of` made; `hang_up` closes them."""


def peer_of(keeper: KnownKeeper, *, asker: SigningKey, **more: Any) -> KeeperPeer:
    PEERS.append(KeeperPeer(keeper, asker=asker, complete=as_it_is, now=lambda: NOW, **more))
    return PEERS[-1]


def hang_up() -> None:
    while PEERS:
        PEERS.pop().close()


def shown_by(address: tuple[str, int], asker: SigningKey) -> Shown:
    """Return what a keeper shows of itself on a connection that ends with it."""
    link = KeeperLink(address)
    try:
        return link.introduce(asker)
    finally:
        link.close()


def own_counter(terms: Counter, *keepers: ToyKeeper, asker: SigningKey) -> OwnCounter:
    addresses = {keeper.name: ("127.0.0.1", keeper.port) for keeper in keepers}
    return OwnCounter(terms, addresses, asker=asker, complete=as_it_is, now=lambda: NOW)
