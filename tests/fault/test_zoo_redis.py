"""The Redis dialect over a real redis-server: every record has one result, whoever dies meanwhile."""

import asyncio
import dataclasses
import json
import resource
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from simulators.data_plane import ToyModel, fails_on
from simulators.redis_server import InfrastructureCa
from simulators.zoo_redis import (
    JOB,
    STREAM,
    PlainRedis,
    TheirClient,
    ZooRole,
    json_record,
    toy_result,
    until,
)

from wardian._internal.zoo_redis import ZooJob
from wardian.crypto.secret import Secret
from wardian.serving.zoo.results import NAN, encode_result
from wardian.serving.zoo.stream import consumer as consumer_module
from wardian.serving.zoo.stream.answering import Answering

VECTORS = Path(__file__).parents[1] / "vectors" / "zoo"


@pytest.fixture
def redis(need_program, tmp_path: Path):
    server = PlainRedis(need_program("redis-server"), tmp_path / "redis").start()
    yield server
    server.kill()


@pytest.fixture
def client(redis: PlainRedis):
    made = redis.client()
    yield made
    made.close()


def pending(client: TheirClient) -> int:
    return client("XPENDING", JOB, "serving")[0]


async def test_a_record_has_its_result_and_leaves_nothing_behind(
    redis: PlainRedis, client: TheirClient
) -> None:
    role = ZooRole(redis.access, job=ZooJob(model="digits", result_ttl_s=77)).start()
    await role.worker()
    client.enqueue("one", json_record(1.5), *STREAM)
    await until(lambda: client.result("one"))
    assert client.result("one") == toy_result(1.5)
    assert client("TTL", "cluster-serving_serving_stream:one") in {76, 77}
    assert client("XLEN", JOB) == 0
    assert pending(client) == 0
    await role.cut()


@pytest.mark.parametrize(
    "uri", ["u:r:i", "with spaces", "ünïcode ✓", "", "a\nb", "*?[x]", b"\xff\0"]
)
async def test_a_uri_may_be_any_text(redis: PlainRedis, client: TheirClient, uri) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    client.enqueue(uri, json_record(2), *STREAM)
    await until(lambda: client.result(uri))
    assert client.result(uri) == toy_result(2)
    await role.cut()


def toy_answer(case: dict) -> bytes:
    """Return what a model of rows of four numbers says to a frozen payload of their client."""
    columns = list(case.get("columns", {}).values())
    shape = columns[0].get("shape", []) if columns else []
    if len(columns) != 1 or shape[-1:] != [4] or len(shape) > 2 or 0 in shape:
        return NAN
    dense = np.zeros(shape, np.float32)
    if columns[0]["kind"] == "sparse":
        dense[tuple(np.array(columns[0]["indices"]).T)] = columns[0]["data"]
    else:
        dense[:] = np.reshape(columns[0]["data"], shape)
    return encode_result([2 * dense, dense.sum(axis=-1)])


async def test_what_their_client_wrote_is_read(redis: PlainRedis, client: TheirClient) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    cases = json.loads((VECTORS / "payloads.json").read_text())
    cases += json.loads((VECTORS / "refused.json").read_text())
    for number, case in enumerate(cases):
        client.enqueue(f"case {number}", case["payload"].encode())
    await until(lambda: len(client.results()) == len(cases))
    expected = {b"case %d" % number: toy_answer(case) for number, case in enumerate(cases)}
    assert client.results() == expected
    assert sum(value != NAN for value in expected.values()) > 4
    await role.cut()


@pytest.mark.parametrize(
    "fields",
    [
        (b"data", b"!!!"),
        (b"data", b""),
        (b"data", b"AAAA"),
        (b"data", b"{", *STREAM),
        (b"data", b"x" * 100_000, *STREAM),
        (b"data", b"A" * 3_000_000),
        (b"nothing", b"x"),
        (b"data", b"AAAA", b"serde", b"java"),
        (b"data", json_record(1, name="image")[:-3], *STREAM),
    ],
)
async def test_what_cannot_be_read_is_nan_and_not_silence(
    redis: PlainRedis, client: TheirClient, fields: tuple[bytes, ...]
) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    client("XADD", JOB, "*", "uri", "bad", *fields)
    await until(lambda: client.result("bad"))
    assert client.result("bad") == NAN
    client.enqueue("good", json_record(3), *STREAM)  # and life goes on
    await until(lambda: client.result("good"))
    assert client.result("good") == toy_result(3)
    assert client("XLEN", JOB) == 0
    await role.cut()


async def test_records_that_cannot_even_be_named_are_counted_and_deleted(
    redis: PlainRedis, client: TheirClient
) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    client("XADD", JOB, "*", "data", "AAAA")
    client("XADD", JOB, "*", "uri", b"u" * 5000, "data", "AAAA")
    client.enqueue("good", json_record(3), *STREAM)
    await until(lambda: client.result("good"))
    await until(lambda: not client("XLEN", JOB))
    assert role.counts.dropped["no-uri"] == 2
    assert client.results() == {b"good": toy_result(3)}
    await role.cut()


async def test_a_record_that_does_not_fit_into_memory_does_not_stop_the_others(
    redis: PlainRedis, client: TheirClient
) -> None:
    """Attack: one entry of 60 MB, and one of 100,000 fields, between good ones."""
    role = ZooRole(redis.access)
    await role.worker()
    for number in range(20):
        client.enqueue(f"before {number}", json_record(number), *STREAM)
    client.enqueue("huge", b"A" * 60_000_000)
    client("XADD", JOB, "*", "uri", "wide", *[b"x"] * 100_000)
    for number in range(20):
        client.enqueue(f"after {number}", json_record(number), *STREAM)
    role.start()
    await until(lambda: len(client.results()) == 40 and not client("XLEN", JOB))
    assert role.counts.dropped["too-large"] == 2
    assert pending(client) == 0
    await role.cut()


async def test_a_failure_of_the_model_is_nan_for_its_record_alone(
    redis: PlainRedis, client: TheirClient
) -> None:
    role = ZooRole(redis.access).start()
    await role.worker(ToyModel(fails_on(13)))
    for number in range(30):
        client.enqueue(f"{number}", json_record(number), *STREAM)
    await until(lambda: len(client.results()) == 30)
    found = client.results()
    assert found.pop(b"13") == NAN
    assert found == {b"%d" % n: toy_result(n) for n in range(30) if n != 13}
    await role.cut()


async def test_text_results(redis: PlainRedis, client: TheirClient) -> None:
    role = ZooRole(redis.access, job=ZooJob(model="digits", top_n="topN(1)")).start()
    await role.worker()
    client.enqueue("t", b'{"instances":[{"image":[1.0,4.0,2.0,3.0]}]}', *STREAM)
    await until(lambda: client.result("t"))
    assert client.result("t").startswith(b"[[1,8.0]]")
    await role.cut()


async def test_rows_stay_rows(redis: PlainRedis, client: TheirClient) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    client.enqueue("r", b'{"instances":[{"image":[[1,1,1,1],[2,2,2,2]]}]}', *STREAM)
    await until(lambda: client.result("r"))
    rows = np.array([[2.0] * 4, [4.0] * 4], np.float32)
    assert client.result("r") == encode_result([rows, np.array([4, 8], np.float32)])
    assert b64decode(client.result("r"))
    await role.cut()


# Who dies


async def test_records_wait_for_a_worker(redis: PlainRedis, client: TheirClient) -> None:
    role = ZooRole(redis.access, deadline_s=0.3).start()
    for number in range(200):
        client.enqueue(f"{number}", json_record(number), *STREAM)
    await until(lambda: role.counts.read)
    await asyncio.sleep(1.0)  # several deadlines
    assert client.results() == {}
    await role.worker()
    await until(lambda: len(client.results()) == 200)
    assert NAN not in client.results().values()
    await role.cut()


async def test_the_role_is_killed_with_records_in_flight(
    redis: PlainRedis, client: TheirClient
) -> None:
    """1,000 records; killed three times, under its name and under another; 1,000 results."""
    client.pipeline(
        [("XADD", JOB, "*", "uri", f"{n}", "data", json_record(n), *STREAM) for n in range(1000)]
    )
    for name in (b"wardian-1", b"wardian-1", b"wardian-2"):
        role = ZooRole(redis.access, consumer=name, deadline_s=0.5).start()
        held = role.consumer
        if name == b"wardian-2":
            await role.worker()
            await until(lambda: len(client.results()) == 1000, within_s=30)
        else:
            await until(lambda held=held: held.held >= 60)
        await role.cut()
    assert client.results() == {b"%d" % n: toy_result(n) for n in range(1000)}
    assert pending(client) == 0
    assert client("XLEN", JOB) == 0


async def test_a_record_that_ends_every_process_is_nan_after_some(
    redis: PlainRedis, client: TheirClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: a record that no process survives would be the end of each that claims it."""
    monkeypatch.setattr(consumer_module, "MOST_DELIVERIES", 3)
    client.enqueue("deadly", json_record(13), *STREAM)
    client.enqueue("good", json_record(1), *STREAM)
    deaths = 0
    answer = Answering.answer

    def dies(self, fields, give) -> None:
        nonlocal deaths
        if fields[b"uri"] == b"deadly":
            deaths += 1
            raise asyncio.CancelledError  # what a kill looks like in one process
        answer(self, fields, give)

    monkeypatch.setattr(Answering, "answer", dies)
    while not client.result("deadly"):
        role = ZooRole(redis.access).start()
        await role.worker()
        await asyncio.sleep(0.1)
        await role.cut()
        assert deaths < 10
    assert client.result("deadly") == NAN
    assert deaths == 3
    role = ZooRole(redis.access).start()
    await role.worker()
    await until(lambda: client.result("good"))
    assert client.result("good") == toy_result(1)
    await role.cut()


async def test_a_key_of_another_kind_in_the_place_of_a_result(
    redis: PlainRedis, client: TheirClient
) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    client("SET", "cluster-serving_serving_stream:taken", "x")
    for uri in ("before", "taken", "after"):
        client.enqueue(uri, json_record(1), *STREAM)
    await until(lambda: client.result("after") and client.result("before"))
    await until(lambda: not client("XLEN", JOB))
    assert role.counts.dropped["key-taken"] == 1
    await role.cut()


@pytest.mark.parametrize("user", [(), ("default",)])
async def test_a_password(need_program, tmp_path: Path, user: tuple[str, ...]) -> None:
    server = PlainRedis(need_program("redis-server"), tmp_path, (f"requirepass {'5e' * 16}",))
    client = server.start().client()
    client("AUTH", *user, "5e" * 16)
    said = [b"wrong", b"5e" * 16]
    access = dataclasses.replace(
        server.access,
        username=user[0] if user else "",
        password=lambda: Secret(said[0] if len(said) == 1 else said.pop(0)),
    )
    role = ZooRole(access).start()  # the first attempt is refused, and is not the last
    await role.worker()
    client.enqueue("one", json_record(1), *STREAM)
    await until(lambda: client.result("one"))
    await role.cut()
    client.close()
    server.kill()


async def test_without_the_password_nobody(need_program, tmp_path: Path, caplog) -> None:
    server = PlainRedis(need_program("redis-server"), tmp_path, ("requirepass hush",)).start()
    role = ZooRole(server.access).start()
    await until(lambda: any(each.message == "zoo.redis_unreachable" for each in caplog.records))
    (record,) = [each for each in caplog.records if each.message == "zoo.redis_unreachable"]
    assert "NOAUTH" in record.fields["why"]
    await role.cut()
    server.kill()


async def test_tls_of_another_authority_is_refused(need_program, tmp_path: Path, caplog) -> None:
    ca, other = InfrastructureCa(), InfrastructureCa()
    certificate, key = ca.server(name="localhost")
    (tmp_path / "cert.pem").write_bytes(certificate)
    (tmp_path / "key.pem").write_bytes(key)
    settings = ("tls-port {}", f"tls-cert-file {tmp_path}/cert.pem",
                f"tls-key-file {tmp_path}/key.pem", f"tls-ca-cert-file {tmp_path}/cert.pem",
                "tls-auth-clients no")  # fmt: skip
    server = PlainRedis(need_program("redis-server"), tmp_path / "redis", settings, tls=True)
    server.settings = (f"tls-port {server.port}", *settings[1:])
    server.start()
    for given, name, accepted in (
        (ca, "localhost", True),
        (other, "localhost", False),
        (ca, "elsewhere", False),
    ):
        caplog.clear()
        pem = given.pem.decode()
        role = ZooRole(dataclasses.replace(server.access, server_name=name, ca_pem=pem)).start()
        wanted = "zoo.redis_connected" if accepted else "zoo.redis_unreachable"
        with caplog.at_level("INFO"):
            await until(lambda: caplog.records)
        assert caplog.records[0].message == wanted
        await role.cut()
    server.kill()


async def test_what_a_server_of_theirs_left_pending_is_not_touched(
    redis: PlainRedis, client: TheirClient
) -> None:
    """Both run side by side: theirs acknowledges nothing, so all that it ever did is pending."""
    client("XGROUP", "CREATE", JOB, "serving", "0", "MKSTREAM")
    for number in range(50):
        client.enqueue(f"theirs {number}", json_record(number), *STREAM)
    client("XREADGROUP", "GROUP", "serving", "consumer-7f", "COUNT", 50, "STREAMS", JOB, ">")
    role = ZooRole(redis.access, deadline_s=0.05).start()
    await role.worker()
    client.enqueue("ours", json_record(1), *STREAM)
    await until(lambda: client.result("ours"))
    await asyncio.sleep(0.5)  # many times the idle time after which ours are claimed
    assert client.results() == {b"ours": toy_result(1)}
    assert pending(client) == 50
    await role.cut()


async def test_two_processes_share_a_stream_and_claim_nothing_that_the_other_has(
    redis: PlainRedis, client: TheirClient
) -> None:
    slow = ZooRole(redis.access, consumer=b"wardian-1", deadline_s=0.4, most=32).start()
    client.pipeline(
        [("XADD", JOB, "*", "uri", f"{n}", "data", json_record(n), *STREAM) for n in range(300)]
    )
    await until(lambda: slow.consumer.held == 32)  # it has no worker, and says that it lives
    quick = ZooRole(redis.access, consumer=b"wardian-2", deadline_s=0.4).start()
    await quick.worker()
    await until(lambda: len(client.results()) == 268)
    await asyncio.sleep(2.0)  # five times the deadline: still the first one's
    assert quick.counts.claimed == 0
    await slow.worker()
    await until(lambda: len(client.results()) == 300)
    await slow.cut()
    await quick.cut()


async def test_their_redis_is_killed_and_comes_back(redis: PlainRedis, client: TheirClient) -> None:
    role = ZooRole(redis.access).start()
    client.pipeline(
        [("XADD", JOB, "*", "uri", f"{n}", "data", json_record(n), *STREAM) for n in range(200)]
    )
    await until(lambda: role.consumer.held)
    await asyncio.sleep(1.1)  # appendfsync no: what Redis itself lost is not the matter here
    redis.kill()
    await role.worker()
    await asyncio.sleep(0.3)  # answers are there, and nobody takes them
    redis.start()
    again = redis.client()
    await until(lambda: len(again.results()) == 200)
    assert again("XLEN", JOB) == 0
    again.close()
    await role.cut()


async def test_their_redis_is_full_and_then_is_not(redis: PlainRedis, client: TheirClient) -> None:
    """A result that finds no room keeps its record pending, and is written once there is some."""
    role = ZooRole(redis.access).start()
    for number in range(50):
        client.enqueue(f"{number}", json_record(number), *STREAM)
    await until(lambda: role.consumer.held == 50)
    client("CONFIG", "SET", "maxmemory", "1mb")  # less than Redis has already
    await role.worker()
    await until(lambda: role.consumer.stuck)
    assert client.results() == {}
    assert pending(client) == client("XLEN", JOB) == 50
    client("CONFIG", "SET", "maxmemory", "0")
    await until(lambda: len(client.results()) == 50)
    assert pending(client) == client("XLEN", JOB) == 0
    await until(lambda: not role.consumer.stuck)  # Redis has them before the role hears of it
    await role.cut()


async def test_the_stream_is_deleted_under_way(redis: PlainRedis, client: TheirClient) -> None:
    role = ZooRole(redis.access).start()
    await role.worker()
    for turn in range(3):
        client.enqueue(f"{turn}", json_record(turn), *STREAM)
        await until(lambda turn=turn: client.result(f"{turn}"))
        client("FLUSHALL")
    await role.cut()


async def test_memory_is_bounded_however_much_lies_in_the_stream(
    redis: PlainRedis, client: TheirClient
) -> None:
    role = ZooRole(redis.access, most=128)
    await role.worker()
    most = 0
    take = role.consumer._take

    def watched(entries, **options) -> int:
        nonlocal most
        taken = take(entries, **options)
        most = max(most, role.consumer.held)
        return taken

    role.consumer._take = watched
    for start in range(0, 10_000, 1000):
        client.pipeline(
            [
                ("XADD", JOB, "*", "uri", f"{n}", "data", json_record(n), *STREAM)
                for n in range(start, start + 1000)
            ]
        )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    role.start()
    await until(lambda: client("DBSIZE") >= 10_001, within_s=60)
    await until(lambda: not client("XLEN", JOB))
    assert most <= 128
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert role.counts.answered == 10_000
    await role.cut()


async def test_what_was_read_is_answered_before_the_role_ends(
    redis: PlainRedis, client: TheirClient
) -> None:
    role = ZooRole(redis.access).start()
    for number in range(300):
        client.enqueue(f"{number}", json_record(number), *STREAM)
    await until(lambda: role.consumer.held)
    draining = asyncio.ensure_future(role.consumer.drain(10))
    await role.worker()
    await draining
    read = role.counts.read
    assert len(client.results()) == read
    assert pending(client) == 0
    assert client("XLEN", JOB) == 300 - read  # for whoever comes next
    await role.cut()


async def test_it_ends_at_any_moment(redis: PlainRedis) -> None:
    for turns in range(60):
        role = ZooRole(redis.access).start()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await role.cut()
