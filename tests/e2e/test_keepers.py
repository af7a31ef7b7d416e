"""Keepers of the broker's counter on loopback: who they are, what they keep, and attacks on both."""

import asyncio
import contextlib
import hashlib
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from simulators.keepers import (
    ToyKeeper,
    ToySealing,
    hang_up,
    known,
    own_counter,
    peer_of,
    shown_by,
    terms_around,
    terms_of,
)
from toy_mesh import MASTER_KEY, NOW, digest

from wardian._internal import wire
from wardian._internal.clock import monotonic
from wardian._internal.counter import CounterKeeper, MonotonicCounter
from wardian.attestation.evidence import Evidence
from wardian.broker.counting.protocol import Advance, CounterAnswer, encode_value
from wardian.broker.frames import FRAME_BYTES, connect
from wardian.broker.keeping import keeper_peer, service
from wardian.broker.keeping.keeper_link import KeeperLink
from wardian.broker.keeping.ledger import Ledger
from wardian.broker.keeping.messages import (
    KeeperChallenge,
    KeeperClaim,
    KeeperHello,
    KeeperProof,
    claim_signed_bytes,
    keeper_report_data,
)
from wardian.broker.keeping.own_counter import asker_key
from wardian.broker.limits import GRACE_S, ServiceLimits
from wardian.broker.refusal import Refusal, decode_or_raise
from wardian.broker.standby.identity import self_signed
from wardian.broker.state.audit import AuditEntry
from wardian.broker.state.store import Store
from wardian.crypto.signing import SigningKey
from wardian.crypto.tls_keys import TlsKey
from wardian.errors import (
    AuthenticationFailed,
    ConnectionLost,
    CounterLost,
    CounterUnavailable,
    EvidenceInvalid,
    FormatError,
    PeerProtocolError,
    PolicyDenied,
    SealError,
    StateRolledBack,
    TransportError,
)

OURS = SigningKey.generate()
LINE = AuditEntry(event="start", outcome="granted")
BROKER = digest("broker")


@pytest.fixture
def keepers(tmp_path: Path) -> Iterator[list[ToyKeeper]]:
    made = [ToyKeeper(f"k{number}", tmp_path) for number in range(4)]
    yield made
    hang_up()
    for keeper in made:
        keeper.stop()


@pytest.fixture
def one(keepers: list[ToyKeeper]) -> ToyKeeper:
    return keepers[0]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_peer, "AWAY_S", 0.0)


def counter_at(keeper: ToyKeeper, *, asker: SigningKey = OURS, name: str = "c") -> MonotonicCounter:
    return peer_of(known(terms_around(keeper), keeper), asker=asker).counter(name)


# One keeper


def test_a_counter_is_kept_and_survives_its_keeper(one: ToyKeeper) -> None:
    counter = counter_at(one)
    assert counter.read() == 0
    counter.advance(5)
    counter.advance(9)
    assert counter.read() == 9
    one.stop()
    with pytest.raises(CounterUnavailable, match="no keeper answers"):
        counter.read()
    one.start()
    assert counter.read() == 9
    assert counter.kept_by is CounterKeeper.BROKER


def test_one_connection_takes_one_quote(one: ToyKeeper) -> None:
    counter = counter_at(one)
    for to in range(1, 50):
        counter.advance(to)
    assert one.quotes == 1


def test_counters_of_other_askers_and_names_are_others(one: ToyKeeper) -> None:
    counter_at(one).advance(5)
    assert counter_at(one, name="d").read() == 0
    assert counter_at(one, asker=SigningKey.generate()).read() == 0
    assert counter_at(one).read() == 5


def test_t5_two_processes_of_one_asker_do_not_both_get_further(one: ToyKeeper) -> None:
    first, second = counter_at(one), counter_at(one)
    assert first.read() == second.read() == 0
    first.advance(1)
    with pytest.raises(SealError, match="did not advance"):
        second.advance(1)
    assert second.read() == 1
    second.advance(2)
    with pytest.raises(SealError, match="only goes up"):
        second.advance(2)


# Is it the keeper?


def test_another_key_is_another_keeper(one: ToyKeeper) -> None:
    peer = peer_of(known(terms_around(one), one, key_sha256=b"x" * 32), asker=OURS)
    with pytest.raises(AuthenticationFailed, match="another key"):
        peer.counter("c").read()


@pytest.mark.parametrize("what", ["code", "machine", "root"])
def test_t5_t12_a_keeper_of_other_code_or_elsewhere_counts_nothing(
    one: ToyKeeper, keepers: list[ToyKeeper], what: str
) -> None:
    elsewhere = keepers[1].platform
    terms = {
        "code": terms_around(one, code=digest("other")),
        "machine": terms_around(one, platform=elsewhere.ppid.hex()),
        "root": terms_around(one, simulation_root_sha256=elsewhere.root_sha256.hex()),
    }[what]
    with pytest.raises(PolicyDenied):
        peer_of(known(terms, one), asker=OURS).counter("c").read()


class Impostor:
    """A host in a keeper's place, with a TLS key of its own, that answers as it is told to."""

    def __init__(self, answer) -> None:
        self.key = TlsKey.generate()
        context = self_signed(self.key, name="impostor", now=NOW)
        self._plain = socket.create_server(("127.0.0.1", 0))
        self.address = self._plain.getsockname()
        self._thread = threading.Thread(target=self._serve, args=(context, answer), daemon=True)
        self._thread.start()

    def _serve(self, context: ssl.SSLContext, answer) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._plain.accept()
            with context.wrap_socket(connection, server_side=True) as stream:
                file = stream.makefile("rwb")
                answer(self, file)

    def close(self) -> None:
        self._plain.close()
        self._thread.join(5)


def receive(file) -> bytes:
    return file.read(int.from_bytes(file.read(4), "big"))


def send(file, raw: bytes) -> None:
    file.write(len(raw).to_bytes(4, "big") + raw)
    file.flush()


def impostor_known(impostor: Impostor, keeper: ToyKeeper):
    """Return the impostor as if `wardian.toml` named its key: evidence alone has to stop it."""
    return known(
        terms_around(keeper),
        keeper,
        address=impostor.address,
        key_sha256=hashlib.sha256(impostor.key.spki).digest(),
    )


def test_t24_evidence_that_a_proxy_relays_is_not_of_its_connection(one: ToyKeeper) -> None:
    """The proxy has the genuine keeper make evidence, and passes it on as its own."""

    def relay(_: Impostor, file) -> None:
        receive(file)
        shown = shown_by(("127.0.0.1", one.port), SigningKey.generate())
        send(file, wire.encode(KeeperChallenge(nonce=bytes(32))))
        receive(file)
        send(file, wire.encode(KeeperProof(evidence=shown.evidence)))

    impostor = Impostor(relay)
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        peer_of(impostor_known(impostor, one), asker=OURS).counter("c").read()
    impostor.close()


def test_t24_evidence_of_an_earlier_session_is_not_of_this_one(one: ToyKeeper) -> None:
    seen: list[bytes] = []

    def answer(impostor: Impostor, file) -> None:
        hello = receive(file)
        challenge = wire.encode(KeeperChallenge(nonce=bytes(32)))
        send(file, challenge)
        receive(file)
        bound = keeper_report_data(keeper_spki=impostor.key.spki, hello=hello, challenge=challenge)
        if not seen:
            seen.append(wire.encode(KeeperProof(evidence=one.attest(bound))))
        send(file, seen[0])
        with contextlib.suppress(ConnectionError):
            receive(file)

    first = Impostor(answer)
    with pytest.raises(CounterUnavailable):  # accepted: then it hangs up
        peer_of(impostor_known(first, one), asker=OURS).counter("c").read()
    again = Impostor(answer)
    with pytest.raises(EvidenceInvalid):
        peer_of(impostor_known(again, one), asker=OURS).counter("c").read()
    for impostor in (first, again):
        impostor.close()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"{}", PeerProtocolError),
        (wire.encode(Refusal(code="denied", rule="x", message="no")), PolicyDenied),
        (b"", CounterUnavailable),
        (b"x" * 70_000, PeerProtocolError),
    ],
)
def test_who_speaks_otherwise_counts_nothing(one: ToyKeeper, said: bytes, error: type) -> None:
    def answer(_: Impostor, file) -> None:
        receive(file)
        with contextlib.suppress(OSError):
            send(file, said) if said else file.close()

    impostor = Impostor(answer)
    with pytest.raises(error):
        peer_of(impostor_known(impostor, one), asker=OURS).counter("c").read()
    impostor.close()


def answering(keeper: ToyKeeper, *answers: bytes | None):
    """Return what plays the keeper up to its proof, then gives these answers; None: is silent."""

    def answer(impostor: Impostor, file) -> None:
        hello = receive(file)
        challenge = wire.encode(KeeperChallenge(nonce=bytes(32)))
        send(file, challenge)
        receive(file)
        bound = keeper_report_data(keeper_spki=impostor.key.spki, hello=hello, challenge=challenge)
        send(file, wire.encode(KeeperProof(evidence=keeper.attest(bound))))
        with contextlib.suppress(OSError):
            for each in answers:
                receive(file)
                if each is None:
                    time.sleep(0.5)
                else:
                    send(file, each)

    return answer


ZERO = wire.encode(CounterAnswer(value=bytes(16)))


@pytest.mark.parametrize(
    ("second", "error", "says"),
    [
        (b"{}", PeerProtocolError, "counter answer"),
        (b"x" * 70_000, PeerProtocolError, "a frame of 70000 bytes"),
        (None, CounterUnavailable, r"within 0\.2 s"),
    ],
)
def test_an_answer_that_is_none_is_not_asked_for_again(
    one: ToyKeeper, monkeypatch: pytest.MonkeyPatch, second: bytes | None, error: type, says: str
) -> None:
    """Only a connection that is gone is made anew at once: who speaks otherwise is left alone."""
    monkeypatch.setattr("wardian.broker.keeping.keeper_link.ANSWER_S", 0.2)
    impostor = Impostor(answering(one, ZERO, second))
    counter = peer_of(impostor_known(impostor, one), asker=OURS).counter("c")
    assert counter.read() == 0
    with pytest.raises(error, match=says):
        counter.read()
    impostor.close()


def test_a_certificate_that_does_not_parse_leaves_no_connection(
    one: ToyKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: bytes) -> bytes:
        raise FormatError("certificate: does not parse")

    monkeypatch.setattr("wardian.broker.keeping.keeper_link.spki_of", broken)
    with pytest.raises(FormatError):
        counter_at(one).read()


def test_a_connection_that_broke_is_lost(one: ToyKeeper) -> None:
    link = KeeperLink(("127.0.0.1", one.port))
    link.introduce(OURS)
    link.close()
    with pytest.raises(ConnectionLost, match="closed the connection"):
        link.take("c", None)


def test_no_time_left_is_no_answer(one: ToyKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian.broker.keeping.keeper_link.ANSWER_S", 0.0)
    with pytest.raises(CounterUnavailable, match="no answer within 0 s"):
        counter_at(one).read()


async def test_a_service_that_is_left_listens_no_more(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, sealing=ToySealing(b"x"), ticks=monotonic)

    def never(_: bytes) -> Evidence:
        raise AssertionError("nobody asked")

    async with service.KeeperService(
        ledger, attest=never, clock=lambda: NOW, ticks=monotonic
    ) as keeper:
        address = await keeper.start("127.0.0.1", 0)
        await (await connect(address)).close()
    with pytest.raises(ConnectionLost):
        await connect(address)


def test_a_keeper_that_says_nothing_holds_nothing_up(
    one: ToyKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardian.broker.keeping.keeper_link.ANSWER_S", 0.2)
    silent = Impostor(lambda _, file: receive(file) and time.sleep(1))
    with pytest.raises(CounterUnavailable, match=r"within 0\.2 s"):
        peer_of(impostor_known(silent, one), asker=OURS).counter("c").read()
    silent.close()


def test_a_keeper_that_failed_is_left_alone_for_a_while(
    one: ToyKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_peer, "AWAY_S", 2.0)
    now = 0.0
    peer = peer_of(known(terms_around(one), one), asker=OURS, ticks=lambda: now)
    counter = peer.counter("c")
    one.stop()
    with pytest.raises(CounterUnavailable, match="no keeper answers"):
        counter.read()
    one.start()
    with pytest.raises(CounterUnavailable, match="is away"):
        counter.read()
    now = 3.0
    assert counter.read() == 0


# Who asks?


def spki_at(keeper: ToyKeeper) -> bytes:
    return shown_by(("127.0.0.1", keeper.port), SigningKey.generate()).spki


async def claimed(keeper: ToyKeeper, *, asker: SigningKey, signer: SigningKey) -> bytes:
    """Return what the keeper answers to a claim of `asker` that `signer` signed."""
    stream = await connect(("127.0.0.1", keeper.port))
    try:
        hello = wire.encode(KeeperHello(asker=asker.public, nonce=bytes(32)))
        await stream.send(hello)
        challenge = await stream.receive(most=FRAME_BYTES)
        key = await asyncio.to_thread(spki_at, keeper)
        signed = claim_signed_bytes(keeper_spki=key, hello=hello, challenge=challenge)
        await stream.send(wire.encode(KeeperClaim(signature=signer.sign(signed))))
        return await stream.receive(most=FRAME_BYTES)
    finally:
        await stream.close()


async def test_t5_nobody_counts_in_another_s_name(one: ToyKeeper) -> None:
    raw = await claimed(one, asker=OURS, signer=OURS)
    decode_or_raise(raw, KeeperProof, what="proof")
    raw = await claimed(one, asker=OURS, signer=SigningKey.generate())
    with pytest.raises(PolicyDenied):
        decode_or_raise(raw, KeeperProof, what="proof")


async def test_a_claim_of_an_earlier_connection_is_not_of_this_one(one: ToyKeeper) -> None:
    """Whoever read one claim, at a keeper of their own for example, cannot use it again."""

    async def begun() -> tuple[object, bytes, bytes]:
        stream = await connect(("127.0.0.1", one.port))
        hello = wire.encode(KeeperHello(asker=OURS.public, nonce=bytes(32)))
        await stream.send(hello)
        return stream, hello, await stream.receive(most=FRAME_BYTES)

    key = await asyncio.to_thread(spki_at, one)
    first, hello, challenge = await begun()
    signed = claim_signed_bytes(keeper_spki=key, hello=hello, challenge=challenge)
    claim = wire.encode(KeeperClaim(signature=OURS.sign(signed)))
    second, *_ = await begun()
    for stream, kind in ((first, KeeperProof), (second, Refusal)):
        await stream.send(claim)
        assert isinstance(
            wire.decode(await stream.receive(most=FRAME_BYTES), KeeperProof | Refusal, what="x"),
            kind,
        )
        await stream.close()


@pytest.mark.parametrize("raw", [b"{}", b"\xff", b"[" * 1000])
async def test_what_is_no_message_is_refused_and_nobody_else_affected(
    one: ToyKeeper, raw: bytes
) -> None:
    counter = counter_at(one)
    await asyncio.to_thread(counter.advance, 1)
    stream = await connect(("127.0.0.1", one.port))
    await stream.send(raw)
    refusal = wire.decode(await stream.receive(most=FRAME_BYTES), Refusal, what="refusal")
    assert refusal.code == "malformed"
    await stream.close()
    assert await asyncio.to_thread(counter.read) == 1


async def test_a_bug_is_answered_without_its_text(
    one: ToyKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(service.Ledger, "take", broken)
    link = KeeperLink(("127.0.0.1", one.port))
    await asyncio.to_thread(link.introduce, OURS)
    with pytest.raises(TransportError, match="its log says why"):
        await asyncio.to_thread(link.take, "c", None)
    link.close()


async def test_t24_strangers_use_up_their_own_quotes_alone(
    one: ToyKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = counter_at(one)
    await asyncio.to_thread(counter.advance, 1)
    stranger = (("127.0.0.1", one.port), SigningKey.generate())
    with pytest.raises(TransportError, match="more evidence than it can make"):
        for _ in range(4 * service.QUOTE_BURST):
            await asyncio.to_thread(shown_by, *stranger)
    assert one.quotes < 2 * service.QUOTE_BURST
    one_more = counter_at(one)  # a known asker on a new connection
    assert await asyncio.to_thread(one_more.read) == 1


async def test_t24_a_crowd_that_says_nothing_gives_way(one: ToyKeeper) -> None:
    one.stop()
    one.start(limits=ServiceLimits(connections=4, connections_per_peer=4))
    counter = counter_at(one)
    await asyncio.to_thread(counter.advance, 1)
    crowd = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(8)]
    await asyncio.sleep(2 * GRACE_S)
    await asyncio.to_thread(counter.advance, 2)  # who counts here keeps its connection
    assert one.quotes == 1
    assert await asyncio.to_thread(counter_at(one).read) == 2  # and finds a place for another
    for _, writer in crowd:
        writer.close()


# Three and more, and the broker's state with them


def store_at(path: Path, counter: MonotonicCounter) -> Store:
    return Store(path, master_key=MASTER_KEY, counter=counter)


def commit(store: Store, value: bytes) -> None:
    store.commit({("trial", "key"): value}, audit=[LINE], now=NOW)


def test_a_broker_s_state_goes_on_without_a_minority_and_only_reads_without_a_majority(
    keepers: list[ToyKeeper], tmp_path: Path
) -> None:
    three = keepers[:3]
    own = own_counter(terms_of(*three), *three, asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        assert store.kept_by is CounterKeeper.MAJORITY
        commit(store, b"1")
        three[0].stop()
        commit(store, b"2")
        three[1].stop()
        with pytest.raises(CounterUnavailable):
            commit(store, b"3")
        assert store.usable  # nothing was begun
        assert store.get("trial", "key") == b"2"
        three[0].start()
        commit(store, b"3")
        three[1].start()
        three[2].stop()
        commit(store, b"4")
    own.close()
    again = own_counter(terms_of(*three), *three, asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", again.counter(BROKER))) as store:
        assert store.get("trial", "key") == b"4"
    again.close()


def test_t5_the_host_that_restores_an_old_state_is_found_out(
    keepers: list[ToyKeeper], tmp_path: Path
) -> None:
    own = own_counter(terms_of(*keepers[:3]), *keepers[:3], asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        commit(store, b"old")
        shutil.copy(tmp_path / "b.db", tmp_path / "old.db")
        commit(store, b"new")
    with pytest.raises(StateRolledBack):
        store_at(tmp_path / "old.db", own.counter(BROKER))
    own.close()


def test_t5_of_two_brokers_on_one_state_the_earlier_one_decides_nothing_more(
    keepers: list[ToyKeeper], tmp_path: Path
) -> None:
    terms, three = terms_of(*keepers[:3]), keepers[:3]
    one, two = (own_counter(terms, *three, asker=asker_key(MASTER_KEY)) for _ in range(2))
    first = store_at(tmp_path / "a.db", one.counter(BROKER))
    commit(first, b"1")
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    second = store_at(tmp_path / "b.db", two.counter(BROKER))
    commit(second, b"2")
    with pytest.raises(SealError, match="took this counter over"):
        commit(first, b"lost")
    assert not first.usable
    commit(second, b"3")
    for each in (first, second, one, two):
        each.close()


def test_t5_keepers_that_were_put_back_do_not_bring_an_old_state_back(
    keepers: list[ToyKeeper], tmp_path: Path
) -> None:
    """Four keepers bear one such host while the carrier cuts another keeper off."""
    terms = terms_of(*keepers, put_back=1)
    own = own_counter(terms, *keepers, asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        assert store.kept_by is CounterKeeper.QUORUM
        commit(store, b"old")
        shutil.copy(tmp_path / "b.db", tmp_path / "old.db")
        saved = keepers[0].saved(tmp_path / "saved")
        commit(store, b"new")
    keepers[0].put_back(saved)
    keepers[1].stop()
    fresh = own_counter(terms, *keepers, asker=asker_key(MASTER_KEY))
    with pytest.raises(StateRolledBack):
        store_at(tmp_path / "old.db", fresh.counter(BROKER))
    with contextlib.closing(store_at(tmp_path / "b.db", fresh.counter(BROKER))) as store:
        commit(store, b"newer")
    keepers[2].stop()
    with pytest.raises(CounterUnavailable):
        fresh.counter(BROKER).read()
    own.close()
    fresh.close()


def test_a_keeper_that_lost_everything_is_none_any_more(
    keepers: list[ToyKeeper], tmp_path: Path
) -> None:
    three = keepers[:3]
    own = own_counter(terms_of(*three), *three, asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        commit(store, b"1")
        terms = terms_of(*three)
        empty = tmp_path / "empty"
        empty.mkdir()
        three[0].put_back(empty)  # it begins with another key
        commit(store, b"2")
        three[1].stop()
        with pytest.raises(CounterUnavailable):
            commit(store, b"3")
    own.close()
    again = own_counter(terms, *three, asker=asker_key(MASTER_KEY))
    with pytest.raises(CounterUnavailable):
        again.counter(BROKER).read()
    again.close()


def test_a_state_whose_keepers_are_all_new_is_for_its_owners(
    keepers: list[ToyKeeper], tmp_path: Path
) -> None:
    own = own_counter(terms_of(*keepers[:3]), *keepers[:3], asker=asker_key(MASTER_KEY))
    with contextlib.closing(store_at(tmp_path / "b.db", own.counter(BROKER))) as store:
        commit(store, b"1")
        commit(store, b"2")
    for keeper in keepers[:3]:
        empty = tmp_path / f"empty-{keeper.name}"
        empty.mkdir()
        keeper.put_back(empty)
    anew = own_counter(terms_of(*keepers[:3]), *keepers[:3], asker=asker_key(MASTER_KEY))
    with pytest.raises(CounterLost):
        store_at(tmp_path / "b.db", anew.counter(BROKER))
    own.close()
    anew.close()


def test_code_of_another_measurement_has_another_counter(keepers: list[ToyKeeper]) -> None:
    three = keepers[:3]
    own = own_counter(terms_of(*three), *three, asker=asker_key(MASTER_KEY))
    counter = own.counter(BROKER)
    counter.read()
    counter.advance(7)
    other = own.counter(digest("new broker"))
    assert other.read() == 0
    assert own.counter(BROKER).read() == 7
    own.close()


def test_a_keeper_that_the_operator_does_not_name_is_away(keepers: list[ToyKeeper]) -> None:
    three = keepers[:3]
    own = own_counter(terms_of(*three), *three[:2], asker=OURS)
    counter = own.counter(BROKER)
    counter.read()
    counter.advance(1)
    own.close()
    own = own_counter(terms_of(*three), three[0], asker=OURS)
    with pytest.raises(CounterUnavailable, match="1 of 3"):
        own.counter(BROKER).read()
    own.close()


def test_an_asker_s_counter_name_has_one_form(one: ToyKeeper) -> None:
    link = KeeperLink(("127.0.0.1", one.port))
    link.introduce(OURS)
    with pytest.raises(PeerProtocolError, match="keeper step"):
        link.take("../x", Advance(at=encode_value(0), to=encode_value(1)))
    link.close()
