"""The backend for TDX guests, against reports that behave as the kernel's."""

import errno
import gc
import os
from pathlib import Path

import dcap_qvl
import pytest
from simulators.attestation_devices import TsmDevice, tdx_quote
from simulators.td_quotes import TdxPlatform, td_body

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.claims import TeeKind
from wardian.attestation.evidence import Evidence, Purpose, bind
from wardian.attestation.quotes.quote import parse_quote
from wardian.attestation.verifier import verify_evidence
from wardian.errors import (
    CollateralUnavailable,
    ConfigError,
    ConnectionLost,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    SealError,
    Timeout,
)
from wardian.tee.backend import SealTo
from wardian.tee.tsm import TsmEnclave

QUOTES = Path(__file__).parents[3] / "../shared/data/quotes"


def quote(report_data):
    return tdx_quote(report_data, tail=b"signature".ljust(4000, b"\0"))


@pytest.fixture
def device(tmp_path):
    with TsmDevice(tmp_path / "report", quote=quote) as device:
        yield device


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def enter(device, tmp_path, pauses):
    return lambda: TsmEnclave(device.root, tmp_path, pause=pauses.append)


@pytest.fixture
def enclave(enter):
    return enter()


def entries(device):
    return list(device.root.iterdir())


# --- its report directory ------------------------------------------------------------------------


def test_each_process_has_a_report_of_its_own(enter, device):
    one, other = enter(), enter()
    assert len(entries(device)) == 2
    assert one.evidence(b"1" * 64).quote == quote(b"1" * 64)
    assert other.evidence(b"2" * 64).quote == quote(b"2" * 64)


def test_report_goes_when_its_owner_goes(enter, device):
    enclave = enter()
    assert len(entries(device)) == 1
    del enclave
    gc.collect()
    assert entries(device) == []


def test_report_goes_at_the_end_of_the_process(enclave, device):
    assert enclave._removal.atexit
    enclave._removal()
    assert entries(device) == []
    with pytest.raises(ConfigError, match="No such file"):
        enclave.evidence(bytes(64))


def test_report_that_somebody_removed_is_no_reason_to_fail_at_the_end(enclave, device):
    entries(device)[0].rmdir()
    enclave._removal()


@pytest.mark.parametrize("provider", ["sev_guest", "arm_cca_guest", "tdx_guest2", "TDX_GUEST", ""])
def test_report_of_a_refused_provider_is_removed(enter, device, provider):
    device.provider = provider
    with pytest.raises(ConfigError) as caught:
        enter()
    assert entries(device) == []
    assert caught.tb is not None  # removed while the error, and with it the object, is still here


def test_sev_snp_is_refused_by_name_with_the_reason(enter, device):
    device.provider = "sev_guest"
    with pytest.raises(ConfigError, match=r"SEV-SNP.*sev_guest.*format.*verifier does not read"):
        enter()


def test_no_provider(enter, device):
    device.provider = None
    with pytest.raises(ConfigError, match="no report can be made"):
        enter()


def test_no_configfs(tmp_path):
    with pytest.raises(ConfigError, match="no report can be made.*configfs.*root"):
        TsmEnclave(tmp_path / "none" / "report")


# --- evidence ------------------------------------------------------------------------------------


def test_quote_without_collateral(enclave):
    evidence = enclave.evidence(b"r" * 64)
    assert evidence.quote == quote(b"r" * 64)
    assert evidence.collateral == b""


@pytest.mark.parametrize("version", [4, 5])
def test_the_verifier_accepts_it_when_the_policy_does(enclave, device, version):
    platform = TdxPlatform(now=1_800_000_000)
    device._quote = lambda report_data: platform.quote(
        td_body(report_data=report_data), version=version
    )
    bound = bind(Purpose.RELEASE, b"nonce")
    evidence = enclave.evidence(bound)
    named = parse_quote(evidence.quote).report.measurement
    policy = AppraisalPolicy(
        roots=frozenset({platform.root_sha256}), rule=MeasurementIn(frozenset({named}))
    )
    with pytest.raises(CollateralUnavailable):
        verify_evidence(evidence, policy=policy, report_data=bound, now=platform.now)
    complete = Evidence(quote=evidence.quote, collateral=platform.collateral())
    result = verify_evidence(complete, policy=policy, report_data=bound, now=platform.now)
    assert result.claims.kind is TeeKind.TDX
    with pytest.raises(EvidenceInvalid, match="made for something else"):
        verify_evidence(complete, policy=policy, report_data=bytes(64), now=platform.now)


def test_report_data_lies_where_a_real_quote_has_it(enclave, device):
    if not QUOTES.exists():
        reason = "the real quotes are kept outside the repository, and are not here"
        (pytest.fail if os.environ.get("WARDIAN_REQUIRE_ALL") else pytest.skip)(reason)
    raw = (QUOTES / "tdx_quote").read_bytes()
    report_data = bytes(dcap_qvl.parse_quote(raw).report.report_data)
    device._quote = lambda _: raw
    assert enclave.evidence(report_data).quote == raw
    with pytest.raises(EvidenceInvalid):
        enclave.evidence(bytes(64))


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_of_another_length_never_reaches_the_kernel(enclave, device, size):
    with pytest.raises(LocalProtocolError):
        enclave.evidence(b"x" * size)
    assert device.written(entries(device)[0]) == 0


def test_report_that_comes_in_pieces(enclave, device):
    device.shortest = 5
    assert enclave.evidence(b"r" * 64).quote == quote(b"r" * 64)


@pytest.mark.parametrize("size", [8193, 32 * 1024, 32 * 1024 + 1])
def test_report_that_is_no_quote_but_a_web_token(enclave, device, size):
    device._quote = lambda report_data: quote(report_data).ljust(size, b"\0")
    with pytest.raises(FormatError, match="more than 8192"):
        enclave.evidence(b"r" * 64)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x04\0\x02\0\x81\0\0\0",  # the right kind, but only its beginning
        quote(b"r" * 64)[:631],
        b"\x03" + quote(b"r" * 64)[1:],
        b"\x06" + quote(b"r" * 64)[1:],
        quote(b"r" * 64)[:2] + b"\x03" + quote(b"r" * 64)[3:],
        quote(b"r" * 64)[:4] + b"\0" + quote(b"r" * 64)[5:],
    ],
    ids=["empty", "header", "cut off", "version 3", "version 5", "key type 3", "SGX"],
)
def test_report_that_is_no_tdx_quote(enclave, device, content):
    device._quote = lambda _: content
    with pytest.raises(FormatError):
        enclave.evidence(b"r" * 64)


@pytest.mark.parametrize("byte", range(64))
def test_every_byte_of_the_report_data_counts(enclave, device, byte):
    altered = bytearray(b"r" * 64)
    altered[byte] ^= 1
    device._quote = lambda _: quote(bytes(altered))
    with pytest.raises(EvidenceInvalid, match="other report data"):
        enclave.evidence(b"r" * 64)


# --- others who write, a host that is busy -------------------------------------------------------


def test_somebody_else_wrote_in_between(enclave, device, pauses):
    """Root in the guest may write to our report: then the quote is not taken, and asked for again."""
    writes = [b"e" * 64, b"e" * 64]
    device.meddle = lambda entry: writes and device.write_inblob(entry, writes.pop())
    assert enclave.evidence(b"r" * 64).quote == quote(b"r" * 64)
    assert len(pauses) == 2


def test_somebody_else_wrote_the_same_in_between(enclave, device, pauses):
    device.meddle = lambda entry: pauses or device.write_inblob(entry, b"r" * 64)
    assert enclave.evidence(b"r" * 64).quote == quote(b"r" * 64)
    assert len(pauses) == 1


def test_somebody_else_never_stops_writing(enclave, device, pauses):
    device.meddle = lambda entry: device.write_inblob(entry, b"e" * 64)
    with pytest.raises(Timeout, match="5 attempts") as caught:
        enclave.evidence(b"r" * 64)
    assert caught.value.retryable
    assert len(pauses) == 4
    device.meddle = lambda _: None
    assert enclave.evidence(b"r" * 64).quote == quote(b"r" * 64)


def test_kernel_that_drops_the_write_and_tells_nobody(enclave, device):
    """The result of closing `inblob` is lost: what comes back is the quote of the time before."""
    assert enclave.evidence(b"1" * 64).quote == quote(b"1" * 64)
    device.ignore_writes = True
    with pytest.raises(Timeout):
        enclave.evidence(b"2" * 64)
    device.ignore_writes = False
    assert enclave.evidence(b"2" * 64).quote == quote(b"2" * 64)


def test_kernel_drops_our_write_and_takes_anothers(enclave, device):
    """Then the count is as expected; what the quote is over is not."""
    device.ignore_writes = True
    device.meddle = lambda entry: device.write_inblob(entry, b"e" * 64)
    with pytest.raises(EvidenceInvalid):
        enclave.evidence(b"r" * 64)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINTR])
def test_busy_host_is_asked_again(enclave, device, pauses, number):
    device.fail_next = [number] * 4
    assert enclave.evidence(b"r" * 64).quote == quote(b"r" * 64)
    assert pauses == [1.0] * 4


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINTR])
def test_host_that_stays_busy(enclave, device, pauses, number):
    device.fail_next = [number] * 5
    with pytest.raises(Timeout, match="busy"):
        enclave.evidence(b"r" * 64)
    assert len(pauses) == 4


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ETIMEDOUT, Timeout),
        (errno.EIO, ConnectionLost),
        (errno.EFBIG, FormatError),
        (errno.EINVAL, ConfigError),
        (errno.ENOTTY, ConfigError),
        (errno.EACCES, ConfigError),
    ],
)
def test_other_errors_are_told_at_once(enclave, device, pauses, number, kind):
    device.fail_next = [number]
    with pytest.raises(kind, match="tsm"):
        enclave.evidence(b"r" * 64)
    assert pauses == []
    assert enclave.evidence(b"r" * 64).quote == quote(b"r" * 64)


@pytest.mark.parametrize("text", [b"\n", b"-1\n", b"1x\n", b"0x1\n"])
def test_generation_that_is_no_number(enclave, device, text):
    device.generation = text
    with pytest.raises(ConnectionLost):
        enclave.evidence(b"r" * 64)


# --- what a guest does not have ------------------------------------------------------------------


@pytest.mark.parametrize("to", SealTo)
def test_no_sealing_key(enclave, to):
    with pytest.raises(SealError, match="TDX guest has no sealing key"):
        enclave.sealing_key(to)


def test_no_counters(enclave):
    with pytest.raises(SealError, match="no monotonic counter"):
        enclave.read_counter("store")
    with pytest.raises(SealError, match="no monotonic counter"):
        enclave.advance_counter("store", 1)


def test_settings(enclave, tmp_path):
    with pytest.raises(ConfigError, match=r"wardian\.toml cannot be read"):
        enclave.agreed_config()
    (tmp_path / "wardian.toml").write_bytes(b"[mesh]")
    (tmp_path / "host.json").write_bytes(b"{}")
    assert enclave.agreed_config() == b"[mesh]"
    assert enclave.host_settings() == b"{}"
    assert (enclave.name, enclave.simulated) == ("tsm", False)
    enclave.announce("ready", port=1)


def test_host_settings_without_end_are_not_read(enclave, tmp_path):
    (tmp_path / "host.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="too large"):
        enclave.host_settings()
