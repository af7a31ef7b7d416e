"""Merkle proofs of any tree verify and no bit of them can change; a witness signs one log."""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "broker"))

from audit_logs import CA, WITNESSES, ToyLog, Watcher
from toy_mesh import NOW, Counter

from wardian._internal import wire
from wardian.broker.state.audit import EMPTY, START, AuditEntry, decode_line, link
from wardian.broker.state.merkle import Peaks, Tree, verify_consistency, verify_inclusion
from wardian.broker.transparency.cosigning import Cosignature, cosign, verify_cosignature
from wardian.broker.transparency.heads import SignedHead, sign_head, verify_head
from wardian.broker.transparency.memory import AuditMemory
from wardian.broker.transparency.proofs import ProofRequest, Proofs
from wardian.broker.transparency.records import AuditProof, LogExport
from wardian.broker.transparency.witnessing import WitnessHello, WitnessMemory, WitnessOffer
from wardian.errors import AuthenticationFailed, FormatError, WardianError

LINES = [f"line {number}".encode() for number in range(200)]
TREE = Tree(LINES)
ROOTS = [TREE.root(size) for size in range(len(LINES) + 1)]
SIZES = st.integers(1, len(LINES))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def flip(raw: bytes, bit: int) -> bytes:
    out = bytearray(raw)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def flipped(hashes: tuple[bytes, ...], bit: int) -> tuple[bytes, ...]:
    return tuple(
        flip(each, bit % 256) if at == bit // 256 else each for at, each in enumerate(hashes)
    )


@given(size=SIZES, data=st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = TREE.inclusion(index, size=size)
    good = {"index": index, "size": size, "path": path, "root": ROOTS[size]}
    verify_inclusion(LINES[index], **good)  # type: ignore[arg-type]
    spoil = data.draw(st.sampled_from(["path", "root", "line", "other line", "surplus", "missing"]))
    line = LINES[index]
    match spoil:
        case "path":
            if not path:
                return
            good["path"] = flipped(path, data.draw(st.integers(0, 256 * len(path) - 1)))
        case "root":
            good["root"] = flip(ROOTS[size], data.draw(st.integers(0, 255)))
        case "line":
            line = flip(line, data.draw(st.integers(0, 8 * len(line) - 1)))
        case "other line":
            other = data.draw(st.integers(0, len(LINES) - 1).filter(lambda at: at != index))
            line = LINES[other]
        case "surplus":
            at = data.draw(st.integers(0, len(path)))
            good["path"] = (*path[:at], data.draw(st.sampled_from(ROOTS)), *path[at:])
        case _:
            if not path:
                return
            at = data.draw(st.integers(0, len(path) - 1))
            good["path"] = (*path[:at], *path[at + 1 :])
    with pytest.raises(AuthenticationFailed):
        verify_inclusion(line, **good)  # type: ignore[arg-type]


@given(second=SIZES, data=st.data())
def test_consistency(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, second))
    proof = TREE.consistency(first, second)
    good = {
        "first": first,
        "first_root": ROOTS[first],
        "second": second,
        "second_root": ROOTS[second],
        "proof": proof,
    }
    verify_consistency(**good)  # type: ignore[arg-type]
    spoil = data.draw(st.sampled_from(["proof", "old", "new", "surplus", "missing"]))
    match spoil:
        case "proof":
            if not proof:
                return
            good["proof"] = flipped(proof, data.draw(st.integers(0, 256 * len(proof) - 1)))
        case "old":
            good["first_root"] = flip(ROOTS[first], data.draw(st.integers(0, 255)))
        case "new":
            if first == 0:
                return  # the empty log is a beginning of every log
            good["second_root"] = flip(ROOTS[second], data.draw(st.integers(0, 255)))
        case "surplus":
            at = data.draw(st.integers(0, len(proof)))
            good["proof"] = (*proof[:at], data.draw(st.sampled_from(ROOTS)), *proof[at:])
        case _:
            if not proof:
                return
            at = data.draw(st.integers(0, len(proof) - 1))
            good["proof"] = (*proof[:at], *proof[at + 1 :])
    with pytest.raises(AuthenticationFailed):
        verify_consistency(**good)  # type: ignore[arg-type]


@given(second=SIZES, at=st.integers(0, len(LINES) - 1), data=st.data())
def test_no_proof_leads_to_a_log_that_was_rewritten(
    second: int, at: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(1, second))
    other = Tree([*LINES[:at], b"other", *LINES[at + 1 :]])
    arguments = {
        "first": first,
        "first_root": ROOTS[first],
        "second": second,
        "second_root": other.root(second),
        "proof": other.consistency(first, second),
    }
    if at >= first:  # behind what was seen: that is a fork, and the old head says nothing of it
        verify_consistency(**arguments)  # type: ignore[arg-type]
        return
    with pytest.raises(AuthenticationFailed):
        verify_consistency(**arguments)  # type: ignore[arg-type]


@given(sizes=st.lists(st.binary(max_size=40), max_size=80))
def test_the_reduced_tree_is_the_tree(sizes: list[bytes]) -> None:
    peaks = Peaks()
    for line in sizes:
        peaks = peaks.appended(line)
    assert peaks.root == Tree(sizes).root()
    assert len(peaks.hashes) == len(sizes).bit_count()


# Messages


@given(raw=st.binary(max_size=300))
def test_garbage_ends_in_a_format_error(raw: bytes) -> None:
    for kind in (
        SignedHead,
        Cosignature,
        ProofRequest,
        Proofs,
        AuditProof,
        LogExport,
        AuditMemory,
        WitnessHello,
        WitnessOffer,
        WitnessMemory,
    ):
        with pytest.raises(FormatError):
            wire.decode(raw, kind, what="x")
    with pytest.raises(FormatError):
        decode_line(raw)


HEAD = sign_head(
    EMPTY, mesh="test", manifest_digest=bytes(32), ca_spki=CA.spki, sign=CA.sign, now=NOW
)
SIGNED = cosign(WITNESSES[1], HEAD, now=NOW)


def test_every_bit_of_a_head_and_a_cosignature_is_signed() -> None:
    for good, kind in ((HEAD, SignedHead), (SIGNED, Cosignature)):
        raw = wire.encode(good)
        for bit in range(8 * len(raw)):
            try:
                found = wire.decode(flip(raw, bit), kind, what="x")
                if isinstance(found, SignedHead):
                    verify_head(found, ca_spki=CA.spki)
                else:
                    verify_cosignature(found, mesh=HEAD.mesh, log=HEAD.log)
            except WardianError:
                continue
            assert found == good  # base64 has spare bits, and JSON spare spellings


@given(
    time=st.integers(0, 2**53),
    count=st.integers(0, 2**53),
    mesh=st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z"),
)
def test_no_two_heads_share_what_is_signed(time: int, count: int, mesh: str) -> None:
    from wardian.broker.transparency.heads import head_signed_bytes

    replace = msgspec.structs.replace
    other = replace(HEAD, mesh=mesh, time=time, audit=replace(HEAD.audit, count=count))
    assert (head_signed_bytes(other) == head_signed_bytes(HEAD)) == (other == HEAD)


# A host that runs the broker as often as it likes, on any copy of its state


class Host(RuleBasedStateMachine):
    """Forks and takes back logs and sends a witness to whichever it likes.

    Whatever it does, what the witness signed is one log: each head is a beginning of the next.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.logs: list[ToyLog] = []
        self.watcher = Watcher()
        self.signed: list[tuple[int, str, list[bytes]]] = []

    @initialize()
    def begin(self) -> None:
        self.logs.append(ToyLog(Path(self.directory.name) / "0.db"))

    @rule(which=st.integers(0, 9), lines=st.integers(1, 3), what=st.sampled_from("abc"))
    def append(self, which: int, lines: int, what: str) -> None:
        self.logs[which % len(self.logs)].append(lines, model=what)

    @rule(which=st.integers(0, 9))
    def copy(self, which: int) -> None:
        if len(self.logs) == 4:
            return
        old = self.logs[which % len(self.logs)]
        path = Path(self.directory.name) / f"{len(self.logs)}.db"
        path.write_bytes(old.path.read_bytes())
        fork = ToyLog.__new__(ToyLog)
        fork.path, fork.ca, fork.mesh, fork.now = path, old.ca, old.mesh, NOW
        fork.witnesses, fork.counter = old.witnesses, Counter(old.counter.value)
        fork.issuer = old.issuer
        fork.open()
        self.logs.append(fork)

    @rule(which=st.integers(0, 9))
    def send_the_witness(self, which: int) -> None:
        log = self.logs[which % len(self.logs)]
        with suppress(AuthenticationFailed):
            head = self.watcher.visit(log).head.audit
            self.signed.append((head.count, head.root, list(log.store.audit_lines(limit=1000))))

    @invariant()
    def what_was_signed_is_one_log(self) -> None:
        for (_, _, before), (count, root, after) in zip(self.signed, self.signed[1:], strict=False):
            assert after[: len(before)] == before
            assert len(after) == count
            assert Tree(after).root().hex() == root

    def teardown(self) -> None:
        for log in self.logs:
            log.close()
        self.directory.cleanup()


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


@QUICK
@given(models=st.lists(st.sampled_from("ab"), max_size=12), at=st.integers(0, 11))
def test_a_chain_and_its_tree_grow_together(models: list[str], at: int) -> None:
    chain, lines = START, []
    for model in models:
        entry = AuditEntry(event="release", outcome="granted", model=model)
        raw, chain = link(entry, chain=chain, now=NOW)
        lines.append(raw)
    assert chain.head.root == Tree(lines).root().hex()
    assert chain.head.count == len(lines)
    middle = START
    for raw in lines[: min(at, len(lines))]:
        _, middle = middle.extended(raw)
    for raw in lines[min(at, len(lines)) :]:
        _, middle = middle.extended(raw)
    assert middle == chain
