"""Requests that only a model's workers read: a real broker, front end, worker and client (T13).

What stands between the four is simulated; what each of them does is not.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from simulators.data_plane import ToyModel, fails_on
from simulators.sealed_mesh import SealedMesh

from wardian._internal import wire
from wardian.broker.certificates import verify_ca_certificate
from wardian.broker.release.request_keys import RequestKey, state_request_key
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.sealed_request import seal_request
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    JobFailed,
    PolicyDenied,
    RequestError,
    RequestKeyInvalid,
    RequestKeyOver,
    Timeout,
)
from wardian.serving.client.aio import AsyncClient
from wardian.serving.client.sync import Client, connect
from wardian.serving.http.messages import HttpRequest, HttpResponse

CANARY = np.array([[3.14159e7, -2.71828e9, 1.41421e-8, 1.61803e5]], "f4")
INPUTS = {"image": CANARY}
KEY_PATH = b"/v1/models/digits/request-key"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[SealedMesh]:
    with SealedMesh(tmp_path, ToyModel(fails_on(9))) as running:
        yield running


@pytest.fixture
def client(mesh: SealedMesh) -> Iterator[Client]:
    with connect(mesh.url, policy=mesh.policy(), seal="worker") as client:
        yield client


def canaries() -> list[bytes]:
    """Input and answer, as they would travel in the clear; any four bytes of them."""
    doubled = CANARY * 2
    return [array.tobytes()[at : at + 4] for array in (CANARY, doubled) for at in range(0, 16, 4)]


def test_an_answer(mesh: SealedMesh, client: Client) -> None:
    found = client.infer("digits", INPUTS)
    np.testing.assert_array_equal(found["doubles"], CANARY * 2)
    assert found["sum"].shape == (1,)
    assert client.infer("digits", INPUTS, version=1, outputs=("sum",)).keys() == {"sum"}
    assert mesh.model.batches == [1, 1]


async def test_the_asynchronous_client(mesh: SealedMesh) -> None:
    async with AsyncClient(mesh.url, policy=mesh.policy(), seal="worker") as client:
        found = await client.infer("digits", INPUTS)
        np.testing.assert_array_equal(found["doubles"], CANARY * 2)
        mesh.broker.authority.turn_epoch(rule="age")
        mesh.renew()
        mesh.broker.authority.turn_epoch(rule="age")
        mesh.renew()
        np.testing.assert_array_equal((await client.infer("digits", INPUTS))["doubles"], CANARY * 2)
        with pytest.raises(RequestError):
            await client.infer("digits", {"image": CANARY[:, :3]})


def test_t13_nothing_of_the_user_s_passes_the_front_end_in_the_clear(
    mesh: SealedMesh, client: Client
) -> None:
    """Neither in a body nor in what it seals for the queue; and the search would find it."""
    client.infer("digits", INPUTS)
    seen = mesh.seen.everything()
    assert len(mesh.seen.http) > 3
    assert len(mesh.seen.queue) > 4
    assert [each for each in canaries() if each in seen] == []
    assert b"doubles" not in b"".join(mesh.seen.http)
    with Client(mesh.url, policy=mesh.policy()) as plain:
        plain.infer("digits", INPUTS)
    assert all(each in mesh.seen.everything() for each in canaries())


def test_t13_errors_of_the_inputs_are_told_to_the_client_alone(
    mesh: SealedMesh, client: Client
) -> None:
    statuses: list[tuple[int, int]] = []

    def note(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if request.method == b"POST":
            statuses.append((response.status, sum(map(len, response.body))))
        return response

    client.infer("digits", INPUTS)
    mesh.rewrites = note
    client.infer("digits", INPUTS)
    with pytest.raises(RequestError, match=r"input 'image' FP32 \[-1, 4\] was expected"):
        client.infer("digits", {"image": CANARY[:, :3]})
    with pytest.raises(JobFailed, match="the model failed on this input"):
        client.infer("digits", {"image": np.full((1, 4), 9, "f4")})
    assert set(statuses) == {(200, 1024 + 56)}
    assert b"was expected" not in mesh.seen.everything()


def test_t13_lengths_are_those_of_buckets(mesh: SealedMesh, client: Client) -> None:
    def lengths(which: Client, *, rows: range) -> set[int]:
        mesh.seen.http.clear()
        for count in rows:
            which.infer("digits", {"image": np.ones((count, 4), "f4")})
        return {len(body) for body in mesh.seen.http if body.startswith(b"wdsr")}

    assert lengths(client, rows=range(1, 33)) == {1024 + 64}
    with connect(mesh.url, policy=mesh.policy(), seal="worker", pad=False) as bare:
        assert len(lengths(bare, rows=range(1, 33))) > 7


def substituted(mesh: SealedMesh, change) -> None:
    """Let the front end show something else than the request key that it was given."""

    def rewrite(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not request.target.startswith(KEY_PATH):
            return response
        key = mesh.papers.request_keys["digits"]
        return HttpResponse(body=(change(key),))

    mesh.rewrites = rewrite


OWN = HpkePrivateKey.generate()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda mesh, key: msgspec.structs.replace(key, public=OWN.public), id="own key"
        ),
        pytest.param(
            lambda mesh, key: state_request_key(
                msgspec.structs.replace(key, public=OWN.public), sign=mesh.identity.key.sign
            ),
            id="own key, own signature",
        ),
        pytest.param(lambda mesh, key: mesh.papers.request_keys["faces"], id="another model's"),
        pytest.param(
            lambda mesh, key: signed(mesh, key, manifest="ab" * 32), id="other manifest's"
        ),
        pytest.param(lambda mesh, key: signed(mesh, key, mesh="other"), id="other mesh's"),
        pytest.param(
            lambda mesh, key: signed(mesh, key, not_after=int(time.time()) - 1),
            id="one that is over",
        ),
        pytest.param(
            lambda mesh, key: signed(mesh, key, not_after=int(time.time()) + 40 * 86_400),
            id="one for ever",
        ),
    ],
)
def test_t13_a_front_end_that_shows_another_key_gets_nothing(mesh: SealedMesh, client: Client, change) -> None:  # fmt: skip
    substituted(mesh, lambda key: wire.encode(change(mesh, key)))
    with pytest.raises(RequestKeyInvalid):
        client.infer("digits", INPUTS)
    assert mesh.model.batches == []
    assert not any(body.startswith(b"wdsr") for body in mesh.seen.http)
    mesh.rewrites = lambda _, response: response
    assert client.infer("digits", INPUTS).keys() == {"doubles", "sum"}


def signed(plane: SealedMesh, key: RequestKey, **changes: object) -> RequestKey:
    """What the broker's key would state, of something else."""
    return state_request_key(
        msgspec.structs.replace(key, **changes), sign=plane.broker.authority.ca.sign
    )


@pytest.mark.parametrize("shown", [b"", b"{}", b"\xff" * 100, bytes(10_000)])
def test_t13_a_front_end_that_shows_no_key(mesh: SealedMesh, client: Client, shown: bytes) -> None:
    substituted(mesh, lambda _: shown)
    with pytest.raises(RequestKeyInvalid):
        client.infer("digits", INPUTS)


def test_t13_a_key_of_an_old_epoch_is_refused(mesh: SealedMesh, client: Client) -> None:
    """Also before its time is over, once this client has seen a newer one."""
    old = mesh.papers.request_keys["digits"]
    for _ in range(2):
        mesh.broker.authority.turn_epoch(rule="age")
        mesh.renew()
    client.infer("digits", INPUTS)
    client._request_keys._keys.clear()
    substituted(mesh, lambda _: wire.encode(old))
    with pytest.raises(RequestKeyInvalid, match="old epoch"):
        client.infer("digits", INPUTS)


def test_a_client_that_is_new_learns_of_the_epoch_by_a_typed_error(mesh: SealedMesh) -> None:
    """It has a key that is not over by its clock: the front end says so, not more than thrice."""
    old = wire.encode(mesh.papers.request_keys["digits"])
    for _ in range(2):
        mesh.broker.authority.turn_epoch(rule="age")
        mesh.renew()
    with connect(mesh.url, policy=mesh.policy(), seal="worker") as client:
        substituted(mesh, lambda _: old)
        with pytest.raises(RequestKeyOver, match="epoch 1, and epoch 3 is in force"):
            client.infer("digits", INPUTS)
        assert sum(body.startswith(b"wdsr") for body in mesh.seen.http) == 3
        assert mesh.model.batches == []


def test_an_epoch_turns_and_the_client_notices_nothing(mesh: SealedMesh, client: Client) -> None:
    for _ in range(4):
        client.infer("digits", INPUTS)
        mesh.broker.authority.turn_epoch(rule="age")
        mesh.renew()
    client.infer("digits", INPUTS)
    assert mesh.model.batches == [1] * 5
    epochs = [body[8:16] for body in mesh.seen.http if body.startswith(b"wdsr")]
    assert int.from_bytes(epochs[-1], "big") >= 4


def test_a_request_of_the_epoch_before_is_still_carried_out(
    mesh: SealedMesh, client: Client
) -> None:
    client.infer("digits", INPUTS)
    mesh.broker.authority.turn_epoch(rule="age")
    mesh.renew()
    client.infer("digits", INPUTS)
    epochs = [body[15] for body in mesh.seen.http if body.startswith(b"wdsr")]
    assert epochs == [1, 1]


def test_a_worker_that_has_not_the_key_makes_the_client_fetch_it(
    mesh: SealedMesh, client: Client
) -> None:
    """The front end lets the epoch of before pass; what decides is which keys the worker has."""
    client.infer("digits", INPUTS)
    mesh.broker.authority.turn_epoch(rule="age")
    mesh.renew()
    with mesh.codec._lock:
        mesh.codec._openers.pop(1).erase()
    client.infer("digits", INPUTS)
    epochs = [body[15] for body in mesh.seen.http if body.startswith(b"wdsr")]
    assert epochs == [1, 1, 2]


def changing(flip: int):
    def rewrite(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if request.method != b"POST":
            return response
        body = bytearray(b"".join(response.body))
        body[flip] ^= 1
        return msgspec.structs.replace(response, body=(bytes(body),))

    return rewrite


@pytest.mark.parametrize("flip", [20, 60, -1])
def test_t13_a_front_end_that_changes_an_answer(
    mesh: SealedMesh, client: Client, flip: int
) -> None:
    mesh.rewrites = changing(flip)
    with pytest.raises(AuthenticationFailed):
        client.infer("digits", INPUTS)


def test_t13_a_front_end_that_gives_the_answer_of_another_request(
    mesh: SealedMesh, client: Client
) -> None:
    kept: list[HttpResponse] = []

    def swap(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if request.method == b"POST":
            kept.append(response)
            return kept[0]
        return response

    mesh.rewrites = swap
    client.infer("digits", INPUTS)
    with pytest.raises(AuthenticationFailed):
        client.infer("digits", INPUTS)


def test_t13_a_front_end_that_answers_itself(mesh: SealedMesh, client: Client) -> None:
    """It knows the public key, as everybody does, and so can seal, but not answer."""
    key = mesh.papers.request_keys["digits"]
    place = mesh.codec._openers[1].place
    forged = seal_request(key.public, bytes(1024), place=place)

    def answer(request: HttpRequest, response: HttpResponse) -> HttpResponse:
        body = b"wdsa\x01\0\0\0" + forged.body[16:]
        return (
            msgspec.structs.replace(response, body=(body,))
            if request.method == b"POST"
            else response
        )

    mesh.rewrites = answer
    with pytest.raises(AuthenticationFailed):
        client.infer("digits", INPUTS)


@pytest.mark.parametrize("at", [16, 50, 100, -1])
def test_t13_a_front_end_that_changes_a_request(mesh: SealedMesh, client: Client, at: int) -> None:
    """The worker runs nothing, and the client is told that its request did not open."""

    def flip(request: HttpRequest) -> HttpRequest:
        body = bytearray(request.body)
        if body.startswith(b"wdsr"):
            body[at] ^= 1
        return msgspec.structs.replace(request, body=bytes(body))

    mesh.redirects = flip
    with pytest.raises(RequestKeyOver):
        client.infer("digits", INPUTS)
    assert mesh.model.batches == []


def test_t13_a_front_end_that_routes_to_another_version_or_model(
    mesh: SealedMesh, client: Client
) -> None:
    """The version is inside, too; another model's workers have other keys."""
    mesh.redirects = lambda request: msgspec.structs.replace(
        request, target=request.target.replace(b"/versions/2", b"/versions/1")
    )
    with pytest.raises(RequestError, match="version 2 was asked for, and this is version 1"):
        client.infer("digits", INPUTS, version=2)


def test_t13_a_request_played_back_opens_for_nobody_but_its_client(
    mesh: SealedMesh, client: Client
) -> None:
    """A second run costs time and tells nothing: another key, the same length."""
    client.infer("digits", INPUTS)
    body = next(body for body in mesh.seen.http if body.startswith(b"wdsr"))
    answers = [body for body in mesh.seen.http if body.startswith(b"wdsa")]
    with mesh.raw() as stranger:
        status, headers, answer = stranger.post(
            "/v2/models/digits/infer",
            body,
            {"Content-Type": "application/vnd.wardian.sealed-request"},
        )
    assert (status, headers["content-type"]) == (200, "application/vnd.wardian.sealed-answer")
    assert len(answer) == len(answers[0])
    assert answer[40:] != answers[0][40:]


@pytest.mark.parametrize("body", [b"", b"x", b"wdsr" + bytes(100), b"wdsr\x01" + bytes(10)])
def test_garbage_for_a_sealed_request(mesh: SealedMesh, body: bytes) -> None:
    kind = {"Content-Type": "application/vnd.wardian.sealed-request"}
    with mesh.raw() as stranger:
        status, _, text = stranger.post("/v2/models/digits/infer", body, kind)
        assert (status, msgspec.json.decode(text)["code"]) == (400, "bad_request")
        assert stranger.post("/v2/models/nobody/infer", body, kind)[0] == 404
        for given in ("0", "-1", "1.5", "x", "1" * 12):
            bad = kind | {"Wardian-Timeout-Ms": given}
            sealed = seal_request(bytes([9]) + bytes(31), b"", place=mesh.codec._openers[1].place)
            assert stranger.post("/v2/models/digits/infer", sealed.body, bad)[0] == 400


def test_what_anybody_may_know(mesh: SealedMesh) -> None:
    with mesh.raw() as stranger:
        status, _, body = stranger.get(KEY_PATH.decode())
        assert (status, body) == (200, wire.encode(mesh.papers.request_keys["digits"]))
        assert stranger.get("/v1/models/nobody/request-key")[0] == 404
        assert stranger.get("/v1/models/digits/request-keys")[0] == 404
        assert stranger.get("/v1/models/digits")[0] == 404


def test_t13_the_key_of_the_mesh_ca_can_be_pinned(mesh: SealedMesh) -> None:
    """So that not even who rules a front end from inside puts an authority of its own on top."""
    spki = verify_ca_certificate(mesh.broker.authority.ca.certificate)
    pinned = mesh.policy(mesh_ca=hashlib.sha256(spki).digest())
    with connect(mesh.url, policy=pinned, seal="worker") as client:
        client.infer("digits", INPUTS)
    with pytest.raises(PolicyDenied) as refused:
        connect(mesh.url, policy=mesh.policy(mesh_ca=b"c" * 32), seal="worker")
    assert refused.value.rule == "mesh-ca"


def test_misuse(mesh: SealedMesh, client: Client) -> None:
    with pytest.raises(ConfigError):
        connect(mesh.url, policy=mesh.policy(), seal="broker")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        client.infer("digits", INPUTS, timeout_s=float("nan"))
    with pytest.raises(RequestError) as missing:
        client.infer("nobody", INPUTS)
    assert missing.value.status == 404
    with pytest.raises(Timeout):
        client.infer("digits", INPUTS, timeout_s=1e-9)
