"""A real Redis with a broker's files: who gets in, as whom, and what each may do there (T3, T25)."""

import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_redis import Caller, RedisServer, context_for, foreign_identity

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
import toy_mesh
from toy_mesh import ToyBroker, ToyMesh, ZooMesh

from wardian.broker.certificates import chain_pem
from wardian.broker.infrastructure.acl import COMMANDS, key_prefix
from wardian.broker.infrastructure.keeping import Infrastructure
from wardian.broker.release.admission import Admission
from wardian.crypto.tls_keys import TlsKey

PREFIX = key_prefix("test")


class World:
    """A broker, admitted roles and a Redis, at the time of the machine."""

    def __init__(self, directory: Path, program: str) -> None:
        mesh = ZooMesh()
        self.broker = ToyBroker(mesh, directory / "broker.db")
        self.roles: dict[str, Admission] = {
            role: self.broker.admit(mesh.workload(role, queue_access=True), mesh.attest(role))
            for role in COMMANDS
        }
        infrastructure = Infrastructure(self.broker.authority)
        self.redis = RedisServer(program, directory / "redis", infrastructure).start()

    def identity(self, role: str) -> tuple[bytes, TlsKey]:
        admission = self.roles[role]
        assert admission.queue_access is not None
        return chain_pem((admission.queue_access.certificate,)), admission.tls_key

    @property
    def ca(self) -> bytes:
        access = self.roles["frontend"].queue_access
        assert access is not None
        return access.infrastructure_ca

    def password(self, role: str) -> bytes:
        access = self.roles[role].queue_access
        assert access is not None
        return access.password.reveal()

    def call(self, role: str) -> Caller:
        """Return a connection of `role`, which logged in as it should."""
        caller = Caller(self.redis.port, context=context_for(self.ca, self.identity(role)))
        assert caller.say("AUTH", role, self.password(role)) == b"OK"
        return caller

    def close(self) -> None:
        self.redis.stop()
        self.broker.close()


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, need_program: Callable[[str], str]
) -> Iterator[World]:
    program = need_program("redis-server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_mesh, "NOW", now := int(time.time()))
        patch.setattr(toy_mesh, "PLATFORM", toy_mesh.generate_platform(clock=lambda: now))
        patch.setitem(ToyMesh.attest.__kwdefaults__, "platform", toy_mesh.PLATFORM)
        world = World(tmp_path_factory.mktemp("world"), program)
        yield world
        world.close()


# Who gets in


@pytest.mark.parametrize("role", sorted(COMMANDS))
def test_a_role_gets_in(world: World, role: str) -> None:
    with world.call(role) as caller:
        assert caller.say("XADD", f"{PREFIX}s", "*", "a", "b")
        assert caller.socket.version() == "TLSv1.3"


def refused(world: World, context: ssl.SSLContext | None, *, name: str = "127.0.0.1") -> None:
    """Return if no command is answered; TLS 1.3 tells a client late that it is not wanted."""
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        Caller(world.redis.port, context=context, name=name) as caller,
    ):
        caller.say("AUTH", "frontend", world.password("frontend"))


def test_without_tls_nobody(world: World) -> None:
    refused(world, None)


def test_without_a_certificate_nobody(world: World) -> None:
    refused(world, context_for(world.ca, None))


def test_t3_with_a_certificate_of_the_mesh_nobody(world: World) -> None:
    for admission in world.roles.values():
        identity = (admission.certificate_chain_pem, admission.tls_key)
        refused(world, context_for(world.ca, identity))


def test_with_a_certificate_of_another_authority_nobody(world: World) -> None:
    refused(world, context_for(world.ca, foreign_identity()))


def test_an_older_tls_nobody(world: World) -> None:
    identity = world.identity("frontend")
    refused(world, context_for(world.ca, identity, version=ssl.TLSVersion.TLSv1_2))


def test_a_server_that_is_none_of_ours_is_not_believed(world: World) -> None:
    identity = world.identity("frontend")
    for authority in (
        world.roles["frontend"].mesh_ca,
        world.roles["frontend"].issuing_ca,
        *(_other_ca(),),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            Caller(world.redis.port, context=context_for(authority, identity))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        Caller(world.redis.port, context=context_for(world.ca, identity), name="other.example")


def _other_ca() -> bytes:
    from wardian.broker.infrastructure.ca import InfrastructureCa

    now = int(time.time())
    return InfrastructureCa.create(mesh="test", simulated=True, now=now).certificate


def test_a_wrong_password_or_another_s(world: World) -> None:
    context = context_for(world.ca, world.identity("frontend"))
    digest = world.redis.users.split("#")[1].split()[0]
    with Caller(world.redis.port, context=context) as caller:
        for user, password in (
            ("frontend", b"0" * 64),
            ("frontend", world.password("worker")),
            ("frontend", digest.encode()),
            ("frontend", b""),
            ("default", b""),
            ("worker", world.password("frontend")),
            ("admin", b"admin"),
        ):
            assert caller.say("AUTH", user, password).startswith("WRONGPASS")
        assert caller.say("PING").startswith("NOAUTH")
        assert caller.say("XADD", f"{PREFIX}s", "*", "a", "b").startswith("NOAUTH")


# What each may do

CALLS = {
    "exists": ("EXISTS", "K"),
    "expire": ("EXPIRE", "K", "9"),
    "info": ("INFO", "server"),
    "mget": ("MGET", "K"),
    "sadd": ("SADD", "Kset", "x"),
    "set": ("SET", "Kstring", "1", "PX", "3000"),
    "smembers": ("SMEMBERS", "Kset"),
    "srem": ("SREM", "Kset", "x"),
    "xack": ("XACK", "K", "w", "1-1"),
    "xadd": ("XADD", "K", "NOMKSTREAM", "*", "a", "b"),
    "xautoclaim": ("XAUTOCLAIM", "K", "w", "me", "60000", "0-0", "COUNT", "1", "JUSTID"),
    "xdel": ("XDEL", "K", "1-1"),
    "xgroup|create": ("XGROUP", "CREATE", "K", "w", "0", "MKSTREAM"),
    "xgroup|delconsumer": ("XGROUP", "DELCONSUMER", "K", "w", "me"),
    "xpending": ("XPENDING", "K", "w", "-", "+", "1"),
    "xread": ("XREAD", "COUNT", "1", "STREAMS", "K", "0"),
    "xreadgroup": ("XREADGROUP", "GROUP", "w", "me", "COUNT", "1", "STREAMS", "K", ">"),
}


def words_of(call: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(key + word[1:] if word in {"K", "Kset", "Kstring"} else word for word in call)


@pytest.mark.parametrize("role", sorted(COMMANDS))
@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_role_has_its_commands_and_no_other(world: World, role: str, name: str) -> None:
    with world.call(role) as caller:
        made = caller.say("XGROUP", "CREATE", f"{PREFIX}k", "w", "0", "MKSTREAM")
        assert made == b"OK" or made.startswith("BUSYGROUP")
        reply = caller.say(*words_of(CALLS[name], f"{PREFIX}k"))
        denied = isinstance(reply, str) and reply.startswith("NOPERM")
        assert denied is (name not in COMMANDS[role]), reply
        assert denied or not isinstance(reply, str) or reply.startswith("BUSYGROUP"), reply


@pytest.mark.parametrize("role", sorted(COMMANDS))
def test_a_role_has_no_key_of_anybody_else(world: World, role: str) -> None:
    with world.call(role) as caller:
        for foreign in ("other", "{wardian:tes}:k", "{wardian:test2}:k", "wardian:test:k", ""):
            for name in COMMANDS[role]:
                if name == "info":
                    continue
                reply = caller.say(*words_of(CALLS[name], foreign))
                assert isinstance(reply, str), (foreign, name, reply)
                assert reply.startswith("NOPERM"), (foreign, name, reply)


DANGEROUS = (
    *(("KEYS", "*"), ("SCAN", "0"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST")),
    *(("ACL", "SETUSER", "x"), ("EVAL", "return 1", "0"), ("SCRIPT", "LOAD", "return 1")),
    *(("DEBUG", "SLEEP", "0"), ("SHUTDOWN",), ("SAVE",), ("BGSAVE",), ("MONITOR",), ("SYNC",)),
    *(
        ("PSYNC", "?", "-1"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("CLIENT", "LIST"),
        ("MODULE", "LIST"),
    ),
    *(("CLIENT", "KILL", "TYPE", "normal"), ("SUBSCRIBE", "x"), ("PUBLISH", "x", "y")),
    *(("MIGRATE", "127.0.0.1", "1", f"{PREFIX}k", "0", "1"), ("DUMP", f"{PREFIX}k")),
    *(
        ("XTRIM", f"{PREFIX}k", "MAXLEN", "0"),
        ("DEL", f"{PREFIX}k"),
        ("XRANGE", f"{PREFIX}k", "-", "+"),
    ),
    *(("XGROUP", "DESTROY", f"{PREFIX}k", "w"), ("XGROUP", "SETID", f"{PREFIX}k", "w", "$")),
    *(("SLAVEOF", "NO", "ONE"), ("CLUSTER", "INFO"), ("FUNCTION", "LIST"), ("SORT", f"{PREFIX}k")),
)


@pytest.mark.parametrize("role", sorted(COMMANDS))
def test_nobody_rules_the_server(world: World, role: str) -> None:
    with world.call(role) as caller:
        for words in DANGEROUS:
            reply = caller.say(*words)
            assert isinstance(reply, str), words
            assert reply.startswith(("NOPERM", "ERR DEBUG command not allowed")), (words, reply)
        assert isinstance(caller.say("XADD", f"{PREFIX}s", "*", "a", "b"), bytes)


def test_the_roles_send_no_other_command_than_these() -> None:
    """What the queue's code names, the ACL allows; what the ACL allows, the code names."""
    import re

    from wardian.tee.role_table import ROLES

    source = Path(__file__).parents[2] / "src"
    known = {name.partition("|")[0].upper() for names in COMMANDS.values() for name in names}
    known |= {"GET", "PING", "XCLAIM", "XLEN", "XRANGE", "XINFO", "XTRIM", "DEL", "SCAN", "KEYS"}
    for role, allowed in COMMANDS.items():
        named: set[str] = set()
        for module in ROLES[role].modules:
            if module.startswith("wardian.serving.queue.redis_"):
                text = (source / (module.replace(".", "/") + ".py")).read_text()
                named |= set(re.findall(r'b"([A-Z]{3,})"', text)) & known
        mine = {name.partition("|")[0].upper() for name in allowed}
        shared = {"SADD", "SET", "INFO"}  # in modules that both have; only one calls them
        assert named - shared == mine - shared, role


def test_memory_that_is_full_refuses_and_drops_nothing(
    tmp_path: Path, world: World, need_program: Callable[[str], str]
) -> None:
    changes = {"maxmemory 1gb": "maxmemory 3mb"}
    redis = RedisServer(
        need_program("redis-server"),
        tmp_path / "small",
        Infrastructure(world.broker.authority),
        **changes,
    ).start()
    try:
        context = context_for(world.ca, world.identity("frontend"))
        with Caller(redis.port, context=context) as caller:
            assert caller.say("AUTH", "frontend", world.password("frontend")) == b"OK"
            first = caller.say("XADD", f"{PREFIX}s", "*", "a", "x")
            reply = None
            for _ in range(200):
                reply = caller.say("XADD", f"{PREFIX}s", "*", "a", "x" * 100_000)
                if isinstance(reply, str):
                    break
            assert isinstance(reply, str)
            assert reply.startswith("OOM")
            ((_, entries),) = caller.say("XREAD", "COUNT", "1", "STREAMS", f"{PREFIX}s", "0")
            assert entries[0][0] == first
    finally:
        redis.stop()
