"""Which counter a broker counts with: keepers on hardware, never a file of the host."""

import sys
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))
sys.path.insert(0, str(Path(__file__).parents[2]))

from simulators.broker_enclave import BrokerEnclave, Machine
from toy_mesh import MASTER_KEY, ToyMesh

from wardian._internal.agreed import Counter, Keeper
from wardian._internal.counter import CounterKeeper
from wardian.attestation.collateral.source import NoCollateral
from wardian.attestation.evidence import Evidence
from wardian.broker.keeping.own_counter import asker_key, keeper_policy
from wardian.broker.state.master_key import MasterKey
from wardian.errors import ConfigError, CounterUnavailable
from wardian.roles.broker_counter import Counting


class OnHardware(BrokerEnclave):
    """Says that it is no simulation, and shows evidence all the same."""

    @property
    @override
    def simulated(self) -> bool:
        return False


def terms(*, root: str | None) -> Counter:
    keepers = tuple(
        Keeper(
            name=f"k{number}",
            key=f"{number:02x}" * 32,
            platform=f"{number:02x}" * 16,
            simulation_root_sha256=root,
        )
        for number in range(3)
    )
    return Counter(keepers=keepers, measurements=("cd" * 32,))


def counting(enclave: BrokerEnclave, named: Counter | None, **more: Any) -> Counting:
    return Counting(enclave, named, {}, collateral=NoCollateral(), **more)


def test_t5_on_hardware_there_is_no_broker_without_keepers() -> None:
    with pytest.raises(ConfigError, match=r"\[counter\]"):
        counting(OnHardware(ToyMesh(), Machine()), None)


@pytest.mark.parametrize("hardware", [True, False])
def test_t11_broker_and_keepers_are_of_one_kind(*, hardware: bool) -> None:
    enclave = (OnHardware if hardware else BrokerEnclave)(ToyMesh(), Machine())
    with pytest.raises(ConfigError, match="all on hardware, or all simulated"):
        counting(enclave, terms(root="ab" * 32 if hardware else None))
    counting(enclave, terms(root=None if hardware else "ab" * 32)).close()


def test_in_a_simulation_a_file_stands_in_and_says_so() -> None:
    enclave = BrokerEnclave(ToyMesh(), Machine())
    own = counting(enclave, None)
    counter = own.counter(MASTER_KEY)
    assert counter.kept_by is CounterKeeper.HOST
    counter.advance(3)
    assert counter.read() == 3
    assert own.measurement == enclave.measurement


def test_keepers_are_asked_under_the_key_of_the_state() -> None:
    own = counting(BrokerEnclave(ToyMesh(), Machine()), terms(root="ab" * 32))
    counter = own.counter(MASTER_KEY)
    assert counter.kept_by is CounterKeeper.MAJORITY
    with pytest.raises(CounterUnavailable, match="0 of 3"):
        counter.read()
    assert own.counter(MASTER_KEY).keeper_id == counter.keeper_id
    assert own.counter(MasterKey.random()).keeper_id == counter.keeper_id
    own.close()
    assert asker_key(MASTER_KEY).public == asker_key(MASTER_KEY).public
    assert asker_key(MASTER_KEY).public != asker_key(MasterKey.random()).public


def test_evidence_without_collateral_goes_on_as_it_is() -> None:
    own = counting(BrokerEnclave(ToyMesh(), Machine()), terms(root="ab" * 32))
    bare = Evidence(quote=b"quote", collateral=b"")
    assert own._complete(bare, frozenset(), 0) == bare


def test_each_keeper_is_held_to_its_own_machine_and_root() -> None:
    named = terms(root="ab" * 32)
    policies = [keeper_policy(named, keeper) for keeper in named.keepers]
    assert all(policy.roots == frozenset({bytes.fromhex("ab" * 32)}) for policy in policies)
    assert len({str(policy.rule) for policy in policies}) == 3
