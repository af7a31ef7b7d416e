"""A front end goes on under another manifest: what becomes of its connections and its clients."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from simulators.front_end import MEASUREMENTS, FrontEnd, digits, make_identity, make_manifest

from wardian.errors import PolicyDenied
from wardian.serving.client.aio import connect_async
from wardian.serving.client.sync import connect

PIXELS = np.random.default_rng(2).random((2, 64), dtype="f4")
ROWS = json.dumps({"instances": [[0.5] * 64]}).encode()
ROLES = {role: frozenset({measured}) for role, measured in MEASUREMENTS.items()}


@pytest.fixture(params=["uvloop", "asyncio"])
def front(request: pytest.FixtureRequest) -> Iterator[FrontEnd]:
    with FrontEnd(loop=request.param) as running:
        yield running


def change(front: FrontEnd) -> None:
    front.put_in_force(make_manifest(front.platform, version=front.manifest.manifest.version + 1))


def test_an_idle_connection_is_closed(front: FrontEnd) -> None:
    with front.raw() as client:
        assert client.get("/v2/health/live")[0] == 200
        change(front)
        assert client.ended()


def test_what_was_being_served_is_answered_and_is_the_last(front: FrontEnd) -> None:
    with front.raw() as client:
        body = json.dumps({"instances": PIXELS.tolist()}).encode()
        client.send(
            b"POST /v1/models/held:predict HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        front.wait_for(lambda: front.dispatcher.held)
        change(front)
        front.release()
        status, headers, _ = client.response()
        assert (status, headers["connection"]) == (200, "close")
        assert client.ended()


def test_t2_what_comes_on_a_connection_of_before_is_not_done(front: FrontEnd) -> None:
    """Half of it was sent when the manifest changed: the rest is read, and it is told why not."""
    with front.raw() as client:
        head = f"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(ROWS)}"
        client.send(f"{head}\r\n\r\n".encode() + ROWS[:10])
        front.wait_for(lambda: front.open_connections == 1)
        time.sleep(0.1)
        change(front)
        seen = len(front.dispatcher.seen)
        client.send(ROWS[10:])
        status, headers, body = client.response()
        assert (status, headers["connection"]) == (421, "close")
        assert json.loads(body)["code"] == "moved"
        assert len(front.dispatcher.seen) == seen
        assert client.ended()


def test_a_renewal_under_the_same_manifest_disturbs_nobody(front: FrontEnd) -> None:
    with front.raw() as client:
        for _ in range(3):
            front.call(front.frontend.use, make_identity(front.issuer), front.papers)
            assert client.get("/v2/health/live")[0] == 200


def test_only_so_many_keys_of_before_are_served(
    front: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.serving.frontend.MAX_KEYS", 2)
    with front.raw() as client:
        assert client.get("/v2/health/live")[0] == 200
        for _ in range(2):
            front.call(front.frontend.use, make_identity(front.issuer), front.papers)
        assert client.ended()


def test_a_client_that_accepts_the_roles_notices_nothing(front: FrontEnd) -> None:
    """Its connections are replaced and verified anew, behind its back."""
    policy = front.policy(manifest_digest=None, roles=ROLES)
    with connect(front.url, policy=policy) as client:
        for version in (4, 5, 6):
            client.infer("digits", {"pixels": PIXELS})
            change(front)
            got = client.infer("digits", {"pixels": PIXELS})
            np.testing.assert_array_equal(got["scores"], digits(PIXELS))
            assert client.verify().manifest.version == version


def test_t21_a_client_that_pinned_the_manifest_notices_at_once(front: FrontEnd) -> None:
    with connect(front.url, policy=front.policy()) as client:
        client.infer("digits", {"pixels": PIXELS})
        change(front)
        seen = len(front.dispatcher.seen)
        with pytest.raises(PolicyDenied, match="does not pin"):
            client.infer("digits", {"pixels": PIXELS})
        assert len(front.dispatcher.seen) == seen


def test_under_load_nothing_fails_while_the_manifest_changes(front: FrontEnd) -> None:
    policy = front.policy(manifest_digest=None, roles=ROLES)
    stopped, wrong, done = threading.Event(), [], [0] * 4

    def ask(number: int) -> None:
        with connect(front.url, policy=policy) as client:
            while not stopped.is_set():
                try:
                    got = client.infer("digits", {"pixels": PIXELS})
                    np.testing.assert_array_equal(got["scores"], digits(PIXELS))
                except Exception as err:  # noqa: BLE001 (the test tells of it)
                    wrong.append(err)
                    return
                done[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        time.sleep(0.15)
        change(front)
    time.sleep(0.15)
    stopped.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert min(done) > 8


async def test_the_asynchronous_client_too(front: FrontEnd) -> None:
    policy = front.policy(manifest_digest=None, roles=ROLES)
    async with await connect_async(front.url, policy=policy) as client:
        for _ in range(3):
            await asyncio.gather(*(client.infer("digits", {"pixels": PIXELS}) for _ in range(8)))
            await asyncio.to_thread(change, front)
        got = await client.infer("digits", {"pixels": PIXELS})
    np.testing.assert_array_equal(got["scores"], digits(PIXELS))


async def test_t21_a_manifest_that_changes_between_handshake_and_evidence(front: FrontEnd) -> None:
    """The evidence is asked for on a connection of before: told so, the client connects again."""
    policy = front.policy(manifest_digest=None, roles=ROLES)
    with connect(front.url, policy=policy) as client:
        first = [True]

        def verify(link: object, deadline: float, verify=client._links._verify) -> None:
            if first and first.pop():
                change(front)
            verify(link, deadline)

        client._links._verify = verify  # type: ignore[method-assign]
        client.close()
        client._links._closed = False
        assert client.infer("digits", {"pixels": PIXELS})["scores"].shape == (2, 10)
    async with await connect_async(front.url, policy=policy) as async_client:
        again = async_client._links._verify
        second = [True]

        async def verify_later(link: object) -> None:
            if second and second.pop():
                await asyncio.to_thread(change, front)
            await again(link)

        async_client._links._verify = verify_later  # type: ignore[method-assign]
        for link in async_client._links._idle:
            link.close()
        async_client._links._idle.clear()
        await async_client.infer("digits", {"pixels": PIXELS})
