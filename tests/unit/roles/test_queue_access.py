"""Which queue a role takes, and as whom it reaches a Redis."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "broker"))

from toy_mesh import ToyBroker, ToyMesh, ZooMesh

from wardian._internal.metrics import Metrics
from wardian.broker.certificates import chain_pem
from wardian.broker.release.admission import Admission
from wardian.errors import ConfigError, LocalProtocolError
from wardian.roles import dispatching
from wardian.roles import frontend as frontend_role
from wardian.roles import worker as worker_role
from wardian.roles.host import HostSettings
from wardian.roles.queue_access import redis_access
from wardian.serving.queue.frames import Address
from wardian.serving.queue.front import SocketFrontQueue
from wardian.serving.queue.lease import Lane
from wardian.serving.queue.redis_front import RedisFrontQueue
from wardian.serving.queue.redis_worker import RedisWorkerQueue
from wardian.serving.queue.worker import SocketWorkerQueue

LANE = Lane("digits", 1)
REDIS = HostSettings(redis=(("10.0.0.1", 6380), ("::1", 1)), redis_name="redis.example")
EMBEDDED = HostSettings(queues=("/run/queue.sock",))


@pytest.fixture
def broker(tmp_path: Path):
    broker = ToyBroker(ZooMesh(), tmp_path / "broker.db")
    yield broker
    broker.close()


def admit(broker: ToyBroker, role: str = "worker", **more: object) -> Admission:
    more.setdefault("queue_access", True)
    return broker.admit(broker.mesh.workload(role, **more), broker.mesh.attest(role))


def test_where_the_host_says_and_as_whom_the_broker_says(broker: ToyBroker) -> None:
    admission = admit(broker)
    grant = admission.queue_access
    assert grant is not None
    access = redis_access(REDIS, admission)
    assert access.addresses == (Address(host="10.0.0.1", port=6380), Address(host="::1", port=1))
    assert (access.server_name, access.username, access.mesh) == ("redis.example", "worker", "test")
    assert (access.password, access.ca_der) == (grant.password, grant.infrastructure_ca)
    assert access.certificate_chain_pem == chain_pem((grant.certificate,))
    assert access.key is admission.tls_key
    assert access.sentinel is None
    access.tls()  # the certificate is of this key
    assert grant.password.reveal().decode() not in repr(access)


def test_an_admission_that_is_wiped_leaves_the_access_as_it_is(broker: ToyBroker) -> None:
    admission = admit(broker)
    access = redis_access(REDIS, admission)
    admission.wipe()
    assert len(access.password.reveal()) == 64


def test_an_admission_without_access(broker: ToyBroker) -> None:
    with pytest.raises(LocalProtocolError):
        redis_access(REDIS, admit(broker, queue_access=False))


def test_a_renewal_is_taken_up_by_the_queue(broker: ToyBroker) -> None:
    for role, queue_of, reach_of in (
        ("frontend", dispatching.open_queue, dispatching.reach),
        ("zoo", dispatching.open_queue, dispatching.reach),
        ("worker", lambda host, given: worker_role._queue(host, given, LANE), worker_role._reach),
    ):
        queue = queue_of(REDIS, admit(broker, role))
        fresh = admit(broker, role, renewal=True)
        assert fresh.queue_access is not None
        reach_of(REDIS, queue)(fresh)
        assert queue._access.certificate_chain_pem == chain_pem((fresh.queue_access.certificate,))


def test_which_queue(broker: ToyBroker) -> None:
    admission, bare = admit(broker), admit(broker, queue_access=False)
    assert isinstance(dispatching.open_queue(REDIS, admission), RedisFrontQueue)
    assert isinstance(dispatching.open_queue(EMBEDDED, bare), SocketFrontQueue)
    assert isinstance(worker_role._queue(REDIS, admission, LANE), RedisWorkerQueue)
    embedded = worker_role._queue(EMBEDDED, bare, LANE)
    assert isinstance(embedded, SocketWorkerQueue)
    for host, queue in ((EMBEDDED, embedded), (EMBEDDED, dispatching.open_queue(EMBEDDED, bare))):
        reach = worker_role._reach if isinstance(queue, SocketWorkerQueue) else dispatching.reach
        reach(host, queue)(bare)  # there is nothing to take up


def test_what_the_embedded_queue_counts_is_shown() -> None:
    metrics, queue = Metrics(), SocketFrontQueue(Address.parse("queue.sock"))
    frontend_role._watch_queue(metrics, queue)
    queue.slabs.counts.carried, queue.slabs.counts.by_socket = 7, 2
    shown = metrics.render().decode()
    assert 'wardian_queue_large_messages_total{way="slab"} 7.0' in shown
    assert 'wardian_queue_large_messages_total{way="socket"} 2.0' in shown
    assert "wardian_queue_slab_bytes 0.0" in shown


@pytest.mark.parametrize(
    "queues", [{}, {"queues": ("a", "b")}, {"queues": ("a",), "redis": (("::1", 1),)}]
)
async def test_no_queue_or_two(queues: dict[str, object]) -> None:
    from types import SimpleNamespace

    agreed = ToyMesh().agreed
    enclave = SimpleNamespace(evidence=None, name="simulated", simulated=True)
    host = HostSettings(listen=(("::1", 1),), model="digits", **queues)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one queue"):
        await frontend_role._serve(enclave, host, agreed)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one queue"):
        worker_role._serve(enclave, host, agreed)  # type: ignore[arg-type]
