"""Queue messages against the host that carries them (TRUST T4, T18)."""

import hashlib
import os
import struct
import threading

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wardian._internal import wire
from wardian.crypto import message, message_keys
from wardian.crypto.message import REPLAY_WINDOW, QueueReceiver, QueueSender
from wardian.crypto.message_header import RequestHeader, build_header, epoch_of, parse_header
from wardian.crypto.secret import Secret
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, WardianError

KEY = Secret(bytes(range(32)))
FRONTEND, WORKER = b"f" * 32, b"w" * 32
HEADER = RequestHeader(version=3, deadline_ms=1_800_000_000_000, request_ids=(7, 2**64 - 1))


def sender(**changes):
    held = {"queue_key": KEY, "model": "digits", "epoch": 5, "certificate_digest": FRONTEND}
    return QueueSender(**(held | changes))


def receiver(**changes):
    held = {"queue_key": KEY, "model": "digits", "epoch": 5, "certificate_digest": WORKER}
    return QueueReceiver(**(held | changes))


def flips(raw):
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(flipped)


def test_there_and_back():
    ours, theirs = sender(), receiver()
    for count in range(1, 4):
        sealed, pending = ours.seal_request(b"input", header=HEADER)
        opened = theirs.open_request(sealed)
        assert opened.plaintext == b"input"
        assert isinstance(opened.plaintext, bytearray)
        assert opened.header.request_ids == (7, 2**64 - 1)
        assert (opened.header.version, opened.header.deadline_ms) == (3, 1_800_000_000_000)
        assert (opened.header.model, opened.header.epoch) == ("digits", 5)
        assert opened.header.certificate_digest == FRONTEND
        assert opened.header.counter == count
        assert pending.open(opened.answer(b"output")) == b"output"


@pytest.mark.parametrize("end", ["request", "answer"])
def test_keys_that_another_thread_erases_meanwhile_open_nothing(monkeypatch, end):
    """Between the look at the place and the derivation: a lease ends at any moment."""
    ours, theirs = (side(queue_key=Secret(KEY.reveal())) for side in (sender, receiver))
    sealed, pending = ours.seal_request(b"input", header=HEADER)
    answer = receiver().open_request(sealed).answer(b"output")

    def erased_meanwhile(raw):
        ours.erase()
        theirs.erase()
        return parse_header(raw)

    monkeypatch.setattr(message, "parse_header", erased_meanwhile)
    with pytest.raises(AuthenticationFailed, match="keys were erased"):
        theirs.open_request(sealed) if end == "request" else pending.open(answer)


def test_erased_keys_seal_and_open_nothing():
    key, other = Secret(bytes(range(32))), Secret(bytes(range(32)))
    ours, theirs = sender(queue_key=key), receiver(queue_key=other)
    sealed, pending = ours.seal_request(b"input", header=HEADER)
    late, _ = ours.seal_request(b"late", header=HEADER)
    opened = theirs.open_request(sealed)
    answer = opened.answer(b"output")
    ours.erase()
    theirs.erase()
    assert repr(key) == repr(other) == "Secret(wiped)"
    with pytest.raises(AuthenticationFailed, match="erased"):
        pending.open(answer)
    with pytest.raises(AuthenticationFailed, match="erased"):
        theirs.open_request(late)
    with pytest.raises(AuthenticationFailed, match="erased"):
        opened.answer(b"again")
    with pytest.raises(LocalProtocolError):
        ours.seal_request(b"more", header=HEADER)
    ours.erase()
    theirs.erase()


def test_a_receiver_that_is_closed_answers_what_it_opened_and_opens_nothing():
    ours, theirs = sender(), receiver(queue_key=Secret(bytes(range(32))))
    sealed, pending = ours.seal_request(b"input", header=HEADER)
    late, _ = ours.seal_request(b"late", header=HEADER)
    opened = theirs.open_request(sealed)
    theirs.close()
    with pytest.raises(AuthenticationFailed, match="erased"):
        theirs.open_request(late)
    assert pending.open(opened.answer(b"output")) == b"output"
    theirs.close()
    theirs.erase()
    with pytest.raises(AuthenticationFailed, match="erased"):
        opened.answer(b"output")


@pytest.mark.parametrize("cut", [0, 3, 15])
def test_the_epoch_of_what_is_too_short(cut):
    sealed, _ = sender().seal_request(b"", header=HEADER)
    assert epoch_of(sealed) == 5
    with pytest.raises(FormatError):
        epoch_of(sealed[:cut])
    with pytest.raises(FormatError):
        epoch_of(sealed[:4] + b"\x02" + sealed[5:])


def test_empty_bodies_travel():
    sealed, pending = sender().seal_request(b"", header=HEADER)
    opened = receiver().open_request(sealed)
    assert opened.plaintext == b""
    assert pending.open(opened.answer(b"")) == b""


def test_every_bit_flip_of_a_request_is_refused():
    sealed, _ = sender().seal_request(b"canary " * 30, header=HEADER)
    theirs = receiver()
    for bit, raw in flips(sealed):
        with pytest.raises((AuthenticationFailed, FormatError)):
            theirs.open_request(raw)
            pytest.fail(f"bit {bit} changed and nobody noticed")
    assert theirs.open_request(sealed).plaintext == b"canary " * 30


def test_every_bit_flip_of_an_answer_is_refused():
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    answer = receiver().open_request(sealed).answer(b"canary " * 30)
    for bit, raw in flips(answer):
        with pytest.raises((AuthenticationFailed, FormatError)):
            pending.open(raw)
            pytest.fail(f"bit {bit} changed and nobody noticed")
    assert pending.open(answer) == b"canary " * 30  # no forgery used the answer up


def test_truncation_and_trailing_bytes_are_refused():
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    theirs = receiver()
    answer = receiver().open_request(sealed).answer(b"output")
    for raw, open_it in ((sealed, theirs.open_request), (answer, pending.open)):
        for length in range(len(raw)):
            with pytest.raises((AuthenticationFailed, FormatError)):
                open_it(raw[:length])
        with pytest.raises(AuthenticationFailed):
            open_it(raw + b"\x00")


def test_the_content_is_not_on_the_wire():
    sealed, _ = sender().seal_request(b"canary", header=HEADER)
    answer = receiver().open_request(sealed).answer(b"canary")
    assert b"canary" not in sealed + answer


def test_a_replay_is_refused():
    ours, theirs = sender(), receiver()
    sealed = [ours.seal_request(b"x", header=HEADER)[0] for _ in range(3)]
    for raw in (sealed[2], sealed[0], sealed[1]):  # any order will do, once
        theirs.open_request(raw)
    for raw in sealed:
        with pytest.raises(AuthenticationFailed, match="seen before"):
            theirs.open_request(raw)


def test_a_forgery_does_not_use_up_the_counter():
    sealed, _ = sender().seal_request(b"x", header=HEADER)
    theirs = receiver()
    with pytest.raises(AuthenticationFailed):
        theirs.open_request(sealed[:-1] + bytes((sealed[-1] ^ 1,)))
    theirs.open_request(sealed)


def test_what_is_older_than_the_window_is_refused():
    ours, theirs = sender(), receiver()
    sealed = [ours.seal_request(b"", header=HEADER)[0] for _ in range(REPLAY_WINDOW + 1)]
    theirs.open_request(sealed[-1])
    with pytest.raises(AuthenticationFailed, match="too old"):
        theirs.open_request(sealed[0])
    theirs.open_request(sealed[1])
    with pytest.raises(AuthenticationFailed, match="seen before"):
        theirs.open_request(sealed[1])


def test_a_jump_over_the_whole_window_forgets_nothing():
    ours, theirs = sender(), receiver()
    first = ours.seal_request(b"", header=HEADER)[0]
    theirs.open_request(first)
    for _ in range(2 * REPLAY_WINDOW):
        ours._turns.take()
    last = ours.seal_request(b"", header=HEADER)[0]
    theirs.open_request(last)
    for raw, why in ((first, "too old"), (last, "seen before")):
        with pytest.raises(AuthenticationFailed, match=why):
            theirs.open_request(raw)


def test_a_request_sent_back_as_an_answer_is_refused():
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    with pytest.raises(AuthenticationFailed, match="other direction"):
        pending.open(sealed)


def test_an_answer_sent_back_as_a_request_is_refused():
    sealed, _ = sender().seal_request(b"input", header=HEADER)
    theirs = receiver()
    answer = theirs.open_request(sealed).answer(b"output")
    with pytest.raises(AuthenticationFailed, match="other direction"):
        theirs.open_request(answer)


def relabelled(raw, direction):
    """Return `raw` with the direction changed and what that direction's form demands."""
    body = raw[104 + 6 + (16 if raw[5] == 1 else 0) :]
    count = 1 if direction == 1 else 0
    head = raw[:5] + bytes((direction, 6, count)) + raw[8:16] + bytes(8) + raw[24:32] + bytes(8)
    return head + raw[40:104] + b"digits" + bytes(8 * count) + body


def test_relabelling_the_direction_does_not_help():
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    theirs = receiver()
    answer = theirs.open_request(sealed).answer(b"output")
    for raw, open_it in (
        (relabelled(sealed, 2), pending.open),
        (relabelled(answer, 1), theirs.open_request),
    ):
        parse_header(raw)  # well formed: it is the keys that differ
        with pytest.raises(AuthenticationFailed, match="not what was sealed"):
            open_it(raw)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "fraud"}, "another model"),
        ({"epoch": 6}, "another epoch"),
        ({"epoch": 4}, "another epoch"),
        ({"queue_key": Secret(bytes(32))}, "not what was sealed"),
    ],
)
def test_another_model_epoch_or_key_is_refused(change, why):
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    with pytest.raises(AuthenticationFailed, match=why):
        receiver(**change).open_request(sealed)
    ours, _ = sender(**change).seal_request(b"input", header=HEADER)
    answer = receiver(**change).open_request(ours).answer(b"output")
    with pytest.raises(AuthenticationFailed, match=why):
        pending.open(answer)


@pytest.mark.parametrize(
    ("at", "length", "value"),
    [(8, 8, struct.pack(">Q", 5)), (104, 6, b"digits"), (72, 32, FRONTEND)],
    ids=["epoch", "model", "certificate"],
)
def test_relabelling_does_not_help(at, length, value):
    """Model, epoch and certificate are in the key, not only in the header."""
    other = sender(model="fraud1", epoch=9, certificate_digest=b"o" * 32)
    raw = bytearray(other.seal_request(b"input", header=HEADER)[0])
    raw[8:16] = struct.pack(">Q", 5)
    raw[104:110] = b"digits"
    raw[at : at + length] = value
    with pytest.raises(AuthenticationFailed, match="not what was sealed"):
        receiver().open_request(bytes(raw))


def test_swapped_answers_are_refused():
    ours, theirs = sender(), receiver()
    (one, for_one), (two, for_two) = (ours.seal_request(b"same", header=HEADER) for _ in range(2))
    answer_one = theirs.open_request(one).answer(b"1")
    answer_two = theirs.open_request(two).answer(b"2")
    for pending, wrong in ((for_one, answer_two), (for_two, answer_one)):
        with pytest.raises(AuthenticationFailed, match="not what was sealed"):
            pending.open(wrong)
    assert for_one.open(answer_one) == b"1"
    assert for_two.open(answer_two) == b"2"


def test_an_old_answer_does_not_meet_a_reused_request_id():
    before, after = sender(), sender()  # the front end restarted: same ids, counters from 1
    old, _ = before.seal_request(b"input", header=HEADER)
    new, pending = after.seal_request(b"input", header=HEADER)
    theirs = receiver()
    with pytest.raises(AuthenticationFailed):
        pending.open(theirs.open_request(old).answer(b"old"))
    assert pending.open(theirs.open_request(new).answer(b"new")) == b"new"


def test_a_second_answer_is_refused():
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    opened = receiver().open_request(sealed)
    first, second = opened.answer(b"first"), opened.answer(b"second")
    elsewhere = receiver(certificate_digest=b"v" * 32).open_request(sealed).answer(b"third")
    assert pending.open(first) == b"first"
    for late in (first, second, elsewhere):
        with pytest.raises(AuthenticationFailed, match="answered before"):
            pending.open(late)


def test_any_worker_of_the_model_may_answer():
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    for name in (b"a", b"b"):
        receiver(certificate_digest=name * 32).open_request(sealed)
    last = receiver(certificate_digest=b"c" * 32).open_request(sealed)
    assert pending.open(last.answer(b"output")) == b"output"


def nonce_of(raw):
    header, _ = parse_header(raw)
    return header.salt, header.counter


def test_no_nonce_is_used_twice():
    ours, again = sender(), sender()
    theirs = receiver()
    used = set()
    for _ in range(100):
        for one in (ours, again):
            sealed, _ = one.seal_request(b"", header=HEADER)
            opened = theirs.open_request(sealed)
            used |= {nonce_of(sealed), nonce_of(opened.answer(b"a")), nonce_of(opened.answer(b"b"))}
    assert len(used) == 600


def test_the_salt_is_drawn_at_first_use():
    ours = sender()
    assert ours._turns._turn is None
    ours.seal_request(b"", header=HEADER)
    assert len(ours._turns._turn.salt) == 32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_draws_new_salts():
    ours, theirs = sender(), receiver()
    first, _ = ours.seal_request(b"before", header=HEADER)
    theirs.open_request(first).answer(b"before")
    waiting = receiver().open_request(ours.seal_request(b"waits", header=HEADER)[0])
    waiting.answer(b"before")
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            request, _ = ours.seal_request(b"in the child", header=HEADER)
            answer = waiting.answer(b"in the child")
            os.write(writes, struct.pack(">I", len(request)) + request + answer)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        raw = pipe.read()
    length = struct.unpack_from(">I", raw)[0]
    theirs_request, theirs_answer = raw[4 : 4 + length], raw[4 + length :]
    mine, _ = ours.seal_request(b"in the parent", header=HEADER)
    answer = waiting.answer(b"in the parent")
    salts = [nonce_of(m)[0] for m in (first, mine, theirs_request, theirs_answer, answer)]
    assert salts[0] == salts[1]  # the parent goes on
    assert len(set(salts[1:])) == 4  # and the child shares nothing with it
    assert theirs.open_request(theirs_request).plaintext == b"in the child"


def test_a_fork_is_counted_where_there_is_none():
    """The same without a fork, so that it runs on every system."""
    ours = sender()
    before = nonce_of(ours.seal_request(b"", header=HEADER)[0])
    message_keys.Forks.count()
    after = nonce_of(ours.seal_request(b"", header=HEADER)[0])
    assert before[0] != after[0]
    assert (before[1], after[1]) == (1, 1)


def test_a_used_up_counter_does_not_wrap(monkeypatch):
    monkeypatch.setattr(message_keys, "MAX_MESSAGES_PER_SALT", 3)
    ours = sender()
    nonces = [nonce_of(ours.seal_request(b"", header=HEADER)[0]) for _ in range(7)]
    assert len(set(nonces)) == 7
    assert [counter for _, counter in nonces] == [1, 2, 3, 1, 2, 3, 1]
    assert len({salt for salt, _ in nonces}) == 3


def test_threads_share_a_sender():
    ours = sender()
    sealed = []

    def send():
        sealed.extend(ours.seal_request(b"", header=HEADER)[0] for _ in range(500))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({nonce_of(raw) for raw in sealed}) == 2000
    theirs = receiver()
    for raw in sealed:
        theirs.open_request(raw)


def test_garbage_pushes_no_sender_out(monkeypatch):
    monkeypatch.setattr(message, "MAX_SALTS", 2)
    monkeypatch.setattr(message_keys, "MAX_CACHED_KEYS", 2)
    sealed, _ = sender().seal_request(b"", header=HEADER)
    theirs = receiver()
    theirs.open_request(sealed)
    for number in range(10):
        garbage = sealed[:40] + bytes((number,)) * 32 + sealed[72:]
        with pytest.raises(AuthenticationFailed, match="not what was sealed"):
            theirs.open_request(garbage)
    with pytest.raises(AuthenticationFailed, match="seen before"):
        theirs.open_request(sealed)


def test_memory_of_senders_is_bounded_as_the_page_says(monkeypatch):
    monkeypatch.setattr(message, "MAX_SALTS", 2)
    theirs = receiver()
    first, second, third = (sender().seal_request(b"", header=HEADER)[0] for _ in range(3))
    for raw in (first, second):
        theirs.open_request(raw)
    for raw in (first, second):
        with pytest.raises(AuthenticationFailed, match="seen before"):
            theirs.open_request(raw)
    theirs.open_request(third)
    assert len(theirs._seen) == 2
    theirs.open_request(first)  # forgotten: the stated consequence of more than MAX_SALTS senders


def test_the_derivations_of_the_page():
    """docs/reference/queue-message.md, computed by another library."""

    def derive(salt, info):
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(KEY.reveal())

    epoch = struct.pack(">Q", 5)
    sealed, pending = sender().seal_request(b"input", header=HEADER)
    header, end = parse_header(sealed)
    info = wire.fields("wardian queue request v1", FRONTEND, b"digits", epoch)
    nonce = bytes(4) + struct.pack(">Q", header.counter)
    key = derive(header.salt, info)
    assert AESGCM(key).decrypt(nonce, sealed[end:], sealed[:end]) == b"input"

    salt = b"s" * 32
    info = wire.fields("wardian queue answer v2", WORKER, b"digits", epoch)
    digest = hashlib.sha256(sealed[:end] + sealed[-16:]).digest()
    info += header.salt + struct.pack(">Q", header.counter) + digest
    clear = struct.pack(">4sBBBBQQQQ", b"wdnq", 1, 2, 6, 0, 5, 0, 9, 0) + salt + WORKER + b"digits"
    body = AESGCM(derive(salt, info)).encrypt(bytes(4) + struct.pack(">Q", 9), b"output", clear)
    assert pending.open(clear + body) == b"output"


@pytest.mark.parametrize(
    "change",
    [
        {"request_ids": ()},
        {"request_ids": tuple(range(256))},
        {"request_ids": (-1,)},
        {"request_ids": (2**64,)},
        {"version": -1},
        {"version": 2**63},
        {"deadline_ms": -1},
        {"deadline_ms": 2**63},
    ],
)
def test_a_header_out_of_range_is_refused(change):
    with pytest.raises(FormatError):
        sender().seal_request(b"", header=msgspec.structs.replace(HEADER, **change))


@pytest.mark.parametrize("model", ["", "Digits", "a/b", "a" * 65, "-a", "ä", "a\n"])
def test_a_model_has_a_models_name(model):
    with pytest.raises(FormatError, match="name"):
        sender(model=model).seal_request(b"", header=HEADER)


@pytest.mark.parametrize("make", [sender, receiver])
@pytest.mark.parametrize(
    "change",
    [
        {"queue_key": Secret(bytes(16))},
        {"certificate_digest": bytes(20)},
        {"epoch": -1},
        {"epoch": 2**63},
    ],
    ids=["key", "certificate", "negative", "large"],
)
def test_wrong_keys_and_epochs_are_our_own_mistake(make, change):
    with pytest.raises(LocalProtocolError):
        make(**change)


@pytest.mark.parametrize("limit", [4])
def test_bodies_are_bounded(monkeypatch, limit):
    sealed, _ = sender().seal_request(b"fivef", header=HEADER)
    opened = receiver().open_request(sealed)
    monkeypatch.setattr(message_keys, "MAX_PLAINTEXT_BYTES", limit)
    for late in (
        lambda: sender().seal_request(b"fivef", header=HEADER),
        lambda: opened.answer(b"fivef"),
        lambda: receiver().open_request(sealed),
    ):
        with pytest.raises(FormatError):
            late()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"WDNQ"),
        (4, b"\x02"),
        (5, b"\x00"),
        (5, b"\x03"),
        (6, b"\x00"),
        (6, b"\xff"),
        (7, b"\xff"),
        (8, b"\xff"),
        (16, b"\xff"),
        (24, bytes(8)),
        (24, b"\xff"),
        (32, b"\xff"),
        (104, b"\xff"),
        (104, b"D"),
    ],
)
def test_malformed_headers_are_refused(at, value):
    raw = bytearray(sender().seal_request(b"", header=HEADER)[0])
    raw[at : at + len(value)] = value
    with pytest.raises(FormatError, match="queue message"):
        receiver().open_request(bytes(raw))


def test_a_request_is_about_something():
    raw = sender().seal_request(b"", header=HEADER)[0]
    with pytest.raises(FormatError, match="out of its range"):
        parse_header(raw[:7] + b"\x00" + raw[8:])


@pytest.mark.parametrize("at", [23, 39, 7])
def test_an_answer_says_nothing_twice(at):
    sealed, _ = sender().seal_request(b"", header=HEADER)
    answer = bytearray(receiver().open_request(sealed).answer(b""))
    answer[at] = 1
    with pytest.raises(FormatError, match="out of its range"):
        parse_header(bytes(answer))


def test_errors_quote_nothing_of_the_message():
    canary = b"canary-in-a-name"
    raw = sender(model=canary.decode()).seal_request(b"canary", header=HEADER)[0]
    for shown in (raw, raw[:-1], raw[:110], b"canary" * 20):
        with pytest.raises(WardianError) as refused:
            receiver().open_request(shown)
        assert "canary" not in str(refused.value)


def test_an_opened_request_does_not_print_its_content():
    sealed, _ = sender().seal_request(b"canary", header=HEADER)
    assert "canary" not in repr(receiver().open_request(sealed))


def test_salt_and_certificate_have_32_bytes():
    sealed, _ = sender().seal_request(b"", header=HEADER)
    header, _ = parse_header(sealed)
    for change in ({"salt": bytes(31)}, {"certificate_digest": bytes(33)}):
        with pytest.raises(FormatError, match="32 bytes each"):
            build_header(msgspec.structs.replace(header, **change))
