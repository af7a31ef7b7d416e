"""What every TEE backend promises to the roles, for each backend.

Gramine's files and the kernel's reports are played by `simulators.attestation_devices`; the
simulated TEE answers over a socket pair, from a desk as the launcher's. Quotes are of a simulated
platform, with the keys that its processor would derive.
"""

import contextlib
import hashlib
import importlib
import socket
import threading

import pytest
from simulators.attestation_devices import GramineDevice, TsmDevice
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_evidence
from wardian.errors import ConfigError, LocalProtocolError, SealError, WardianError
from wardian.tee.backend import BACKENDS, SealTo, enter
from wardian.tee.gramine import GramineEnclave, read_device, write_device
from wardian.tee.launch.file_counters import FileCounters
from wardian.tee.launch.simulation import generate_platform
from wardian.tee.simulated import (
    AdvanceCounterQuestion,
    Announcement,
    Answer,
    EvidenceQuestion,
    HostSettingsQuestion,
    ReadCounterQuestion,
    SealingKeyQuestion,
    SimulatedEnclave,
    parse_question,
    receive_frame,
    send_frame,
)
from wardian.tee.tsm import TsmEnclave

NOW = 1_800_000_000
HERE, ELSEWHERE = hashlib.sha256(b"an enclave").digest(), hashlib.sha256(b"another").digest()
AGREED, HOST = b'[mesh]\nname = "\xc3\xa4"\r\n\0', b'{"log_level": "info"}\n'
THREADS, QUOTES_EACH, YIELD_S = 8, 4, 0.0005
PLATFORM = generate_platform(clock=lambda: NOW)
TDX_PLATFORM = TdxPlatform(now=NOW)


def sgx_quote(mr_enclave: bytes, product_id: int):
    return lambda report_data: PLATFORM.quote(
        mr_enclave=mr_enclave, report_data=report_data, product_id=product_id
    )


def tdx_quote(report_data: bytes) -> bytes:
    return TDX_PLATFORM.quote(td_body(report_data=report_data))


def sgx_report_data(evidence: Evidence) -> bytes:
    return parse_quote(evidence.quote).report.report_data


def tdx_report_data(evidence: Evidence) -> bytes:
    return evidence.quote[568:632]


def unlocked(enclave):
    """Return `enclave` without its lock: the mistake that the contract is there to find."""
    enclave._lock = contextlib.nullcontext()
    return enclave


def quote_at_once(enclave, report_data_of) -> None:
    """Let many threads ask at once; each has to get a quote over its own report data."""
    failures: list[object] = []
    start = threading.Barrier(THREADS)

    def ask(number: int) -> None:
        start.wait()
        for turn in range(QUOTES_EACH):
            report_data = hashlib.sha512(bytes((number, turn))).digest()
            try:
                found = report_data_of(enclave.evidence(report_data))
            except WardianError as err:
                failures.append(err)
            else:
                if found != report_data:
                    failures.append(f"thread {number}, turn {turn}: another one's quote")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


class AttesterContract:
    """The suite. A subclass says which backend.

    `enclave` is in `HERE`, `other` in `ELSEWHERE` with the same signer and product id, `stranger`
    in `ELSEWHERE` with another product id.
    """

    NAME: str
    CLASS: str
    SIMULATED: bool
    SEALS: bool
    COUNTS: bool

    @pytest.fixture
    def enclave(self):
        raise NotImplementedError

    @pytest.fixture
    def other(self):
        raise NotImplementedError

    @pytest.fixture
    def stranger(self):
        raise NotImplementedError

    @staticmethod
    def report_data_of(evidence: Evidence) -> bytes:
        raise NotImplementedError

    # --- what it is ---------------------------------------------------------------------------

    def test_name_and_flag(self, enclave):
        assert enclave.name == self.NAME
        assert enclave.simulated is self.SIMULATED

    def test_the_table_leads_to_it(self, enclave, monkeypatch):
        assert self.NAME in BACKENDS
        home = importlib.import_module(type(enclave).__module__)
        monkeypatch.setattr(home, self.CLASS, lambda: enclave)
        assert enter(self.NAME) is enclave

    def test_a_process_outside_is_told_so(self):
        with pytest.raises(ConfigError):
            enter(self.NAME)  # no test runs in a TEE

    # --- evidence -----------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "report_data", [bytes(64), b"\xff" * 64, bytes(range(64))], ids=["zeros", "ones", "all"]
    )
    def test_evidence_is_over_exactly_the_bytes_given(self, enclave, report_data):
        assert self.report_data_of(enclave.evidence(report_data)) == report_data

    def test_evidence_after_evidence_is_over_its_own_bytes(self, enclave):
        assert self.report_data_of(enclave.evidence(b"a" * 64)) == b"a" * 64
        assert self.report_data_of(enclave.evidence(b"b" * 64)) == b"b" * 64
        assert self.report_data_of(enclave.evidence(b"a" * 64)) == b"a" * 64

    @pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 128, 8192])
    def test_report_data_of_another_length_is_our_bug(self, enclave, size):
        with pytest.raises(LocalProtocolError, match="64"):
            enclave.evidence(bytes(size))
        assert self.report_data_of(enclave.evidence(b"c" * 64)) == b"c" * 64  # it goes on

    def test_many_threads_get_each_its_own(self, enclave):
        quote_at_once(enclave, self.report_data_of)

    # --- state --------------------------------------------------------------------------------

    def test_sealing_key_belongs_to_the_measurement(self, enclave, other):
        if not self.SEALS:
            with pytest.raises(SealError, match="no sealing key"):
                enclave.sealing_key()
            return
        assert len(enclave.sealing_key()) == 32
        assert enclave.sealing_key() == enclave.sealing_key(SealTo.MEASUREMENT)
        assert enclave.sealing_key() != other.sealing_key()

    def test_sealing_key_of_the_signer_belongs_to_the_product(self, enclave, other, stranger):
        if not self.SEALS:
            with pytest.raises(SealError, match="no sealing key"):
                enclave.sealing_key(SealTo.SIGNER)
            return
        shared = enclave.sealing_key(SealTo.SIGNER)
        assert len(shared) == 32
        assert shared == enclave.sealing_key(SealTo.SIGNER) == other.sealing_key(SealTo.SIGNER)
        assert shared != stranger.sealing_key(SealTo.SIGNER)
        assert shared != enclave.sealing_key(SealTo.MEASUREMENT)

    def test_keys_and_quotes_at_once_do_not_mix(self, enclave):
        """A key may come out of the same device as a quote, and so may spoil it."""
        if not self.SEALS:
            return
        expected, found = enclave.sealing_key(SealTo.SIGNER), []
        asking = threading.Thread(
            target=lambda: found.extend(enclave.sealing_key(SealTo.SIGNER) for _ in range(10))
        )
        asking.start()
        quote_at_once(enclave, self.report_data_of)
        asking.join(60)
        assert len(found) == 10
        assert all(key == expected for key in found)

    def test_counters_count_or_say_that_they_do_not(self, enclave):
        if not self.COUNTS:
            with pytest.raises(SealError, match="no monotonic counter"):
                enclave.read_counter("store")
            with pytest.raises(SealError, match="no monotonic counter"):
                enclave.advance_counter("store", 1)
            return
        assert enclave.read_counter("store") == 0
        enclave.advance_counter("store", 7)
        assert enclave.read_counter("store") == 7
        for not_greater in (0, 6, 7):
            with pytest.raises(SealError):
                enclave.advance_counter("store", not_greater)
        assert enclave.read_counter("store") == 7
        assert enclave.read_counter("another") == 0

    # --- settings -----------------------------------------------------------------------------

    def test_settings_are_the_exact_bytes(self, enclave):
        assert enclave.agreed_config() == AGREED
        assert enclave.host_settings() == HOST

    def test_announcing_returns(self, enclave):
        enclave.announce("ready", port=8443, name="x", ok=True, nothing=None)


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "wardian.toml").write_bytes(AGREED)
    (folder / "host.json").write_bytes(HOST)
    return folder


# --- simulated -----------------------------------------------------------------------------------


def answer(question, mr_enclave, product_id, counters):  # noqa: PLR0911 (one per question)
    match question:
        case EvidenceQuestion(report_data=report_data):
            evidence = PLATFORM.evidence(mr_enclave=mr_enclave, report_data=report_data)
            return Answer(evidence=evidence)
        case SealingKeyQuestion(to=SealTo.SIGNER):
            return Answer(content=PLATFORM.signer_sealing_key(product_id).reveal())
        case SealingKeyQuestion():
            return Answer(content=PLATFORM.sealing_key(mr_enclave).reveal())
        case ReadCounterQuestion(name=name):
            return Answer(number=counters.read(name))
        case AdvanceCounterQuestion(name=name, to=to):
            counters.advance(name, to)
            return Answer()
        case Announcement():
            return Answer()
        case HostSettingsQuestion():
            return Answer(content=HOST)
    return Answer(content=AGREED)


def serve(channel: socket.socket, *known) -> None:
    with channel:
        while (raw := receive_frame(channel)) is not None:
            try:
                told = answer(parse_question(raw), *known)
            except SealError as err:
                told = Answer(error=str(err))
            send_frame(channel, told)


class TestSimulated(AttesterContract):
    NAME, CLASS, SIMULATED, SEALS, COUNTS = "simulated", "SimulatedEnclave", True, True, True
    report_data_of = staticmethod(sgx_report_data)

    @pytest.fixture
    def launched(self, tmp_path):
        with contextlib.ExitStack() as stack:

            def launch(mr_enclave: bytes, product_id: int) -> SimulatedEnclave:
                ours, theirs = socket.socketpair()
                counters = FileCounters(tmp_path / f"{mr_enclave.hex()}-{product_id}")
                desk = threading.Thread(target=serve, args=(ours, mr_enclave, product_id, counters))
                desk.start()
                stack.callback(desk.join, 10)
                stack.enter_context(theirs)  # closed first: that is how the desk ends
                return SimulatedEnclave(theirs)

            yield launch

    @pytest.fixture
    def enclave(self, launched):
        return launched(HERE, 1)

    @pytest.fixture
    def other(self, launched):
        return launched(ELSEWHERE, 1)

    @pytest.fixture
    def stranger(self, launched):
        return launched(ELSEWHERE, 2)


# --- gramine -------------------------------------------------------------------------------------


class TestGramine(AttesterContract):
    NAME, CLASS, SIMULATED, SEALS, COUNTS = "gramine", "GramineEnclave", False, True, False
    report_data_of = staticmethod(sgx_report_data)

    @pytest.fixture
    def entered(self, tmp_path, config):
        with contextlib.ExitStack() as stack:

            def enter_gramine(mr_enclave: bytes, product_id: int) -> GramineEnclave:
                device = GramineDevice(
                    tmp_path / f"{mr_enclave.hex()}-{product_id}",
                    quote=sgx_quote(mr_enclave, product_id),
                    seal_key=PLATFORM.sealing_key(mr_enclave).reveal()[:16],
                    signer_key=PLATFORM.signer_sealing_key(0).reveal()[:16],
                )
                device.yield_s = YIELD_S
                stack.enter_context(device)
                return GramineEnclave(device.root, config)

            yield enter_gramine

    @pytest.fixture
    def enclave(self, entered):
        return entered(HERE, 1)

    @pytest.fixture
    def other(self, entered):
        return entered(ELSEWHERE, 1)

    @pytest.fixture
    def stranger(self, entered):
        return entered(ELSEWHERE, 2)

    def test_without_its_lock_the_contract_is_broken(self, enclave):
        with pytest.raises(AssertionError):
            quote_at_once(unlocked(enclave), sgx_report_data)

    def test_without_lock_and_self_check_wrong_evidence_gets_out(self, enclave, monkeypatch):
        """That the two hide each other's absence must not hide that both are needed."""
        monkeypatch.setattr("wardian.tee.gramine.demand_bound", lambda *_, **__: None)
        with pytest.raises(AssertionError, match="another one's quote"):
            quote_at_once(unlocked(enclave), sgx_report_data)

    def test_a_verifier_accepts_it_once_it_has_collateral(self, enclave):
        policy = AppraisalPolicy(
            roots=frozenset({PLATFORM.root_sha256}), rule=MeasurementIn(frozenset({HERE}))
        )
        made = enclave.evidence(b"r" * 64)
        evidence = Evidence(quote=made.quote, collateral=PLATFORM.collateral())
        result = verify_evidence(evidence, policy=policy, report_data=b"r" * 64, now=NOW)
        assert result.claims.measurement == HERE


# --- tsm -----------------------------------------------------------------------------------------


class TestTsm(AttesterContract):
    NAME, CLASS, SIMULATED, SEALS, COUNTS = "tsm", "TsmEnclave", False, False, False
    report_data_of = staticmethod(tdx_report_data)

    @pytest.fixture
    def device(self, tmp_path):
        with TsmDevice(tmp_path / "report", quote=tdx_quote) as device:
            device.yield_s = YIELD_S
            yield device

    @pytest.fixture
    def enclave(self, device, config):
        enclave = TsmEnclave(device.root, config, pause=lambda _: None)
        yield enclave
        enclave._removal()
        assert list(device.root.iterdir()) == []

    @pytest.fixture
    def other(self, enclave):
        return enclave  # no measurement gives a key

    @pytest.fixture
    def stranger(self, enclave):
        return enclave

    def test_without_its_lock_the_contract_is_broken(self, enclave):
        with pytest.raises(AssertionError):
            quote_at_once(unlocked(enclave), tdx_report_data)

    def test_without_any_of_its_checks_wrong_evidence_gets_out(self, enclave, monkeypatch):
        monkeypatch.setattr("wardian.tee.tsm.demand_bound", lambda *_, **__: None)
        monkeypatch.setattr("wardian.tee.tsm.TsmEnclave._ask_once", _ask_without_counting)
        with pytest.raises(AssertionError, match="another one's quote"):
            quote_at_once(unlocked(enclave), tdx_report_data)

    def test_a_verifier_accepts_it_once_it_has_collateral(self, enclave):
        guest = parse_quote(tdx_quote(b"r" * 64)).report.measurement
        policy = AppraisalPolicy(
            roots=frozenset({TDX_PLATFORM.root_sha256}), rule=MeasurementIn(frozenset({guest}))
        )
        made = enclave.evidence(b"r" * 64)
        evidence = Evidence(quote=made.quote, collateral=TDX_PLATFORM.collateral())
        result = verify_evidence(evidence, policy=policy, report_data=b"r" * 64, now=NOW)
        assert result.claims.measurement == guest


def _ask_without_counting(self, report_data):
    write_device(self._entry / "inblob", report_data)
    return read_device(self._entry / "outblob", limit=8192)
