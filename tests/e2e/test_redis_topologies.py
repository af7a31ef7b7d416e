"""A Redis Cluster and Sentinels with a broker's files, as the how-to says: roles find their keys."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from own_redis import HOST, Caller, RedisServer, context_for

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
from toy_mesh import ToyBroker, ToyMesh

from wardian.broker.certificates import build_csr, chain_pem, parse_csr
from wardian.broker.infrastructure.keeping import Infrastructure
from wardian.cli.redis.files import CONF, USERS
from wardian.cli.resolving import free_port
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import TransportError
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_access import RedisAccess
from wardian.serving.queue.redis_link import BlockingLink
from wardian.serving.queue.redis_wire import command

ADMIN = "user admin on >administrator ~* &* +@all\n"
CLUSTER = "cluster-enabled yes\ntls-cluster yes\ntls-replication yes\ncluster-node-timeout 2000\n"


class Operator:
    """Who runs several servers of Redis for one mesh."""

    def __init__(self, directory: Path, program: str) -> None:
        self.directory, self.program = directory, program
        self.broker = ToyBroker(ToyMesh(), directory / "broker.db")
        self.broker.host_time = int(time.time())
        self.infrastructure = Infrastructure(self.broker.authority)
        self.key = TlsKey.generate()
        request = parse_csr(build_csr(self.key))
        self.grant = self.infrastructure.grant(request, role="worker")

    def server(self, name: str, *, more: str = "") -> RedisServer:
        """Return a server that has what `queue-files` writes, and what the operator adds to it."""
        made = RedisServer(self.program, self.directory / name, self.infrastructure)
        for file, text in ((CONF, more), (USERS, ADMIN)):
            with (made.directory / file).open("a") as added:
                added.write(text)
        return made

    @contextmanager
    def admin(self, port: int) -> Iterator[Caller]:
        identity = (chain_pem((self.grant.certificate,)), self.key)
        with Caller(port, context=context_for(self.grant.infrastructure_ca, identity)) as caller:
            assert caller.say("AUTH", "admin", "administrator") == b"OK"
            yield caller

    def access(self, *ports: int, sentinel: str | None = None) -> RedisAccess:
        return RedisAccess(
            addresses=tuple(Address(host=HOST, port=port) for port in ports),
            server_name=HOST,
            username=self.grant.username,
            password=self.grant.password,
            ca_der=self.grant.infrastructure_ca,
            certificate_chain_pem=chain_pem((self.grant.certificate,)),
            key=self.key,
            mesh="test",
            sentinel=sentinel,
        )

    def add(self, access: RedisAccess) -> bytes:
        """Add an entry as a worker does, wherever its key is; return where it went."""
        first = command(b"XGROUP", b"CREATE", access.keys.replies(b"f"), b"w", b"0", b"MKSTREAM")
        link = BlockingLink.open(access, access.tls(), first=first, max_reply_bytes=65536)
        try:
            link.write(command(b"XADD", access.keys.replies(b"f"), b"*", b"a", b"b"))
            entry = link.read()
        finally:
            link.close()
        assert isinstance(entry, bytes), entry
        return entry


@pytest.fixture
def operator(tmp_path: Path, need_program: Callable[[str], str]) -> Iterator[Operator]:
    operator = Operator(tmp_path, need_program("redis-server"))
    yield operator
    operator.broker.close()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_cluster_sends_a_role_to_the_node_that_has_its_keys(operator: Operator) -> None:
    with ExitStack() as stack:
        nodes = [operator.server(name, more=CLUSTER).start() for name in ("one", "two")]
        for node in nodes:
            stack.callback(node.stop)
        slots = (("0", "8191"), ("8192", "16383"))
        for node, (low, high) in zip(nodes, slots, strict=True):
            with operator.admin(node.port) as admin:
                assert admin.say("CLUSTER", "ADDSLOTSRANGE", low, high) == b"OK"
        with operator.admin(nodes[0].port) as admin:
            bus = str(nodes[1].port + 10_000)
            assert admin.say("CLUSTER", "MEET", HOST, str(nodes[1].port), bus) == b"OK"

        def whole() -> bool:
            told = []
            for node in nodes:
                with operator.admin(node.port) as admin:
                    told.append(admin.say("CLUSTER", "INFO"))
            return all(b"cluster_state:ok" in each for each in told)

        until(whole)
        for start in (nodes[0].port, nodes[1].port):
            assert operator.add(operator.access(start))
        lengths = []
        for node in nodes:
            with operator.admin(node.port) as admin:
                lengths.append(admin.say("XLEN", "{wardian:test}:r:f"))
        assert min(map(str, lengths)) == "2"  # both at one node, the other sends away
        assert sum(isinstance(each, str) and each.startswith("MOVED") for each in lengths) == 1


SENTINEL = """\
port 0
bind {host}
tls-port {port}
tls-cert-file {directory}/server.pem
tls-key-file {directory}/server.key
tls-ca-cert-file {directory}/ca.pem
tls-auth-clients yes
tls-replication yes
dir {directory}
user default off
user worker on #{digest} resetkeys resetchannels -@all +sentinel|get-master-addr-by-name
sentinel monitor mymaster {host} {master} 1
sentinel auth-user mymaster admin
sentinel auth-pass mymaster administrator
"""


def test_sentinels_say_where_the_master_is(operator: Operator) -> None:
    master = operator.server("master", more="tls-replication yes\n").start()
    files, port = operator.server("sentinel"), free_port([HOST])
    users = files.users
    digest = next(line for line in users.splitlines() if "user worker" in line).split("#")[1][:64]
    conf = files.directory / "sentinel.conf"
    conf.write_text(
        SENTINEL.format(
            host=HOST, port=port, directory=files.directory, digest=digest, master=master.port
        )
    )
    with (files.directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [operator.program, str(conf), "--sentinel"], stdout=log, stderr=log
        )
    try:
        until(lambda: b"+monitor master" in (files.directory / "log").read_bytes())
        assert operator.add(operator.access(port, sentinel="mymaster"))
        with pytest.raises(TransportError, match="knows no such master"):
            operator.add(operator.access(port, sentinel="another"))
        with operator.admin(master.port) as admin:
            assert admin.say("XLEN", "{wardian:test}:r:f") == 1
    finally:
        process.kill()
        process.wait()
        master.stop()
