"""Front ends behind one balancer move to another manifest one after the other, under one call."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from simulators.front_end import MEASUREMENTS, FrontEnd, digits, make_manifest

from wardian.errors import ConnectionLost, Timeout
from wardian.serving.client import attempts
from wardian.serving.client.aio import AsyncClient
from wardian.serving.client.sync import Client

PIXELS = np.random.default_rng(3).random((2, 64), dtype="f4")
ROLES = {role: frozenset({measured}) for role, measured in MEASUREMENTS.items()}
LOSSES, MOVES = attempts.MAX_LOSSES, attempts.MAX_MOVES


class Moving(FrontEnd):
    """Moves under each of the first connections of a client, when that is verified or just before.

    Attributes:
        hears: what came on the connection before it is answered with 421; else it is closed.
    """

    hears = True

    def move(self) -> None:
        if self.hears:
            self.frontend._server.retire = lambda _: None  # type: ignore[method-assign]
        version = self.manifest.manifest.version + 1
        self.put_in_force(make_manifest(self.platform, version=version))

    def client(self, *, moves: int, verified: bool = True) -> Client:
        client = Client(self.url, policy=self.policy(manifest_digest=None, roles=ROLES))
        left, verify = [self.move] * moves, client._links._verify

        def moving(link: object, deadline: float) -> None:
            if verified:
                verify(link, deadline)  # type: ignore[arg-type]
            if left:
                left.pop()()
            if not verified:
                verify(link, deadline)  # type: ignore[arg-type]

        client._links._verify = moving  # type: ignore[method-assign]
        return client

    def async_client(self, *, moves: int, verified: bool = True) -> AsyncClient:
        client = AsyncClient(self.url, policy=self.policy(manifest_digest=None, roles=ROLES))
        left, verify = [self.move] * moves, client._links._verify

        async def moving(link: object) -> None:
            if verified:
                await verify(link)  # type: ignore[arg-type]
            if left:
                await asyncio.to_thread(left.pop())
            if not verified:
                await verify(link)  # type: ignore[arg-type]

        client._links._verify = moving  # type: ignore[method-assign]
        return client


@pytest.fixture
def front() -> Iterator[Moving]:
    with Moving() as running:
        yield running


CASES = pytest.mark.parametrize(
    ("hears", "moves", "verified"),
    [(True, MOVES, True), (True, MOVES, False), (False, LOSSES, True)],
    ids=["the request came too late", "the question for evidence did", "it was closed"],
)


@CASES
def test_a_call_survives_that(front: Moving, hears: bool, moves: int, verified: bool) -> None:
    front.hears = hears
    with front.client(moves=moves, verified=verified) as client:
        got = client.infer("digits", {"pixels": PIXELS})
    np.testing.assert_array_equal(got["scores"], digits(PIXELS))
    assert len(front.dispatcher.seen) == 1


@CASES
async def test_so_does_one_of_the_asynchronous_client(
    front: Moving, hears: bool, moves: int, verified: bool
) -> None:
    front.hears = hears
    async with front.async_client(moves=moves, verified=verified) as client:
        got = await client.infer("digits", {"pixels": PIXELS})
    np.testing.assert_array_equal(got["scores"], digits(PIXELS))
    assert len(front.dispatcher.seen) == 1


@pytest.mark.parametrize(("hears", "moves"), [(True, MOVES + 1), (False, LOSSES + 1)])
async def test_but_not_for_ever(front: Moving, hears: bool, moves: int) -> None:
    front.hears = hears
    with front.client(moves=moves) as client, pytest.raises(ConnectionLost):
        client.infer("digits", {"pixels": PIXELS})
    async with front.async_client(moves=moves) as async_client:
        with pytest.raises(ConnectionLost):
            await async_client.infer("digits", {"pixels": PIXELS})
    assert front.dispatcher.seen == []


def test_and_not_beyond_the_time_that_it_was_given(front: Moving) -> None:
    with front.client(moves=MOVES) as client, pytest.raises((Timeout, ConnectionLost)):
        client.infer("digits", {"pixels": PIXELS}, timeout_s=1e-3)
    assert front.dispatcher.seen == []


async def test_t21_a_kept_connection_is_replaced_when_its_certificate_ends(front: Moving) -> None:
    with Client(front.url, policy=front.policy()) as client:
        client.infer("digits", {"pixels": PIXELS})
        (kept,) = client._links._idle
        kept.protocol._ends_at = 0
        client.infer("digits", {"pixels": PIXELS})
        assert kept._sock.fileno() == -1
        assert kept not in client._links._idle
    async with AsyncClient(front.url, policy=front.policy()) as async_client:
        await async_client.infer("digits", {"pixels": PIXELS})
        (link,) = async_client._links._idle
        link.protocol._ends_at = 0
        await async_client.infer("digits", {"pixels": PIXELS})
        assert link._writer.is_closing()
        assert link not in async_client._links._idle
    assert len(front.dispatcher.seen) == 4
