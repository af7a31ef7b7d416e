"""The Gramine backend, against files that behave as Gramine's."""

import errno

import pytest
from simulators.attestation_devices import GramineDevice

from wardian.attestation.verifier import verify_quote
from wardian.errors import (
    CollateralUnavailable,
    ConfigError,
    ConnectionLost,
    EvidenceInvalid,
    FormatError,
    LocalProtocolError,
    SealError,
)
from wardian.tee.backend import SealTo
from wardian.tee.gramine import GramineEnclave, read_device
from wardian.tee.launch.simulation import generate_platform

PLATFORM = generate_platform()


def quote(report_data):
    return PLATFORM.quote(mr_enclave=bytes(32), report_data=report_data)


@pytest.fixture
def device(tmp_path):
    (tmp_path / "wardian.toml").write_bytes(b"[mesh]")
    (tmp_path / "host.json").write_bytes(b"{}")
    device = GramineDevice(
        tmp_path / "attestation", quote=quote, seal_key=b"s" * 16, signer_key=b"m" * 16
    )
    with device:
        yield device


@pytest.fixture
def enclave(device, tmp_path):
    return GramineEnclave(device.root, tmp_path)


def test_what_it_is(enclave):
    assert (enclave.name, enclave.simulated) == ("gramine", False)
    assert enclave.agreed_config() == b"[mesh]"
    assert enclave.host_settings() == b"{}"
    enclave.announce("ready", port=1)


# --- evidence ------------------------------------------------------------------------------------


def test_quote_over_report_data_without_collateral(enclave, device):
    evidence = enclave.evidence(b"r" * 64)
    assert device.report_data == b"r" * 64
    assert evidence.quote == device._quote(b"r" * 64)[:432] + evidence.quote[432:]
    assert evidence.collateral == b""
    with pytest.raises(CollateralUnavailable):
        verify_quote(evidence.quote, evidence.collateral, root=PLATFORM.root_der, now=0)


@pytest.mark.parametrize("size", [0, 32, 63, 65, 256])
def test_report_data_of_another_length_never_reaches_gramine(enclave, device, size):
    with pytest.raises(LocalProtocolError):
        enclave.evidence(b"x" * size)
    assert device.report_data == bytes(64)


def test_quote_that_comes_in_pieces(enclave, device):
    device.shortest = 7
    assert enclave.evidence(b"r" * 64).quote[368:432] == b"r" * 64


def test_quote_padded_to_the_whole_buffer(enclave, device):
    device._quote = lambda report_data: quote(report_data).ljust(8192, b"\0")
    assert len(enclave.evidence(b"r" * 64).quote) == 8192


def test_quote_longer_than_gramine_ever_gives(enclave, device):
    device._quote = lambda report_data: quote(report_data).ljust(8193, b"\0")
    with pytest.raises(FormatError, match="more than 8192"):
        enclave.evidence(b"r" * 64)


def test_endless_quote_is_not_read_to_its_end(enclave, device):
    handed_out = []

    class Endless(bytes):
        def __getitem__(self, _):
            handed_out.append(1000)
            return bytes(1000)

    device._quote = lambda _: Endless()
    with pytest.raises(FormatError, match="more than 8192"):
        enclave.evidence(b"r" * 64)
    assert sum(handed_out) < 10_000


@pytest.mark.parametrize("content", [b"", b"\0", bytes(431)])
def test_quote_that_is_empty_or_cut_off(enclave, device, content):
    device._quote = lambda _: content
    with pytest.raises(FormatError, match=f"a quote of {len(content)} bytes"):
        enclave.evidence(b"r" * 64)


def test_quote_over_what_somebody_else_wrote(enclave, device):
    device._quote = lambda _: quote(b"e" * 64)
    with pytest.raises(EvidenceInvalid, match="other report data"):
        enclave.evidence(b"r" * 64)


@pytest.mark.parametrize("byte", range(64))
def test_every_byte_of_the_report_data_counts(enclave, device, byte):
    """The last 32 as well: RA-TLS verifiers that compare the first 32 alone are why this is here."""
    altered = bytearray(b"r" * 64)
    altered[byte] ^= 1
    stub = quote(bytes(altered))
    device._quote = lambda _: stub
    with pytest.raises(EvidenceInvalid):
        enclave.evidence(b"r" * 64)


def test_report_data_that_is_taken_in_part_is_not_quoted(enclave, device):
    """Gramine pads a short write with zeros: a second write would replace it, not add to it."""
    quoted = []
    device._quote = lambda report_data: quoted.append(report_data) or quote(report_data)
    device.takes = 32
    with pytest.raises(ConfigError, match="report data"):
        enclave.evidence(b"r" * 64)
    assert quoted == []


def test_quoting_enclave_that_does_not_answer_may_later(enclave, device):
    device.fail_next = [errno.EACCES]  # the one error that Gramine has for everything
    with pytest.raises(ConnectionLost, match="no quote: Permission denied.*aesmd") as caught:
        enclave.evidence(b"r" * 64)
    assert caught.value.retryable
    assert enclave.evidence(b"r" * 64).quote[368:432] == b"r" * 64  # and the lock is free again


def test_report_data_that_cannot_be_written(enclave, device):
    (device.root / "user_report_data").unlink()
    with pytest.raises(ConfigError, match="report data"):
        enclave.evidence(bytes(64))
    assert not (device.root / "user_report_data").exists()  # nothing is made in its place


# --- keys and counters ---------------------------------------------------------------------------


def test_sealing_key_is_derived_from_gramines(enclave, device):
    key = enclave.sealing_key()
    assert len(key) == 32
    assert key == enclave.sealing_key()
    assert b"s" * 16 not in key.reveal()
    (device.root / "keys" / "_sgx_mrenclave").write_bytes(b"t" * 16)
    assert key != enclave.sealing_key()


@pytest.mark.parametrize("key", [b"", b"s" * 15, b"s" * 17, b"s" * 32])
def test_sealing_key_that_gramine_never_gives(enclave, device, key):
    (device.root / "keys" / "_sgx_mrenclave").write_bytes(key)
    with pytest.raises(ConfigError, match="sealing key"):
        enclave.sealing_key()


def test_signers_key_is_bound_to_the_product_that_the_processor_reports(enclave, device):
    key = enclave.sealing_key(SealTo.SIGNER)
    assert len(key) == 32
    assert key == enclave.sealing_key(SealTo.SIGNER)
    assert key != enclave.sealing_key(SealTo.MEASUREMENT)
    assert b"m" * 16 not in key.reveal()
    device._quote = lambda data: PLATFORM.quote(
        mr_enclave=bytes(32), report_data=data, product_id=7
    )
    assert key != enclave.sealing_key(SealTo.SIGNER)


def test_signers_key_without_a_report_is_refused(enclave, device):
    device._quote = lambda _: bytes(100)
    with pytest.raises(ConfigError, match="report has"):
        enclave.sealing_key(SealTo.SIGNER)
    (device.root / "target_info").unlink()
    with pytest.raises(ConfigError, match="target"):
        enclave.sealing_key(SealTo.SIGNER)
    (device.root / "keys" / "_sgx_mrsigner").write_bytes(b"")
    with pytest.raises(ConfigError, match="sealing key has 0 bytes"):
        enclave.sealing_key(SealTo.SIGNER)


def test_counters_fail_closed(enclave):
    with pytest.raises(SealError):
        enclave.read_counter("store")
    with pytest.raises(SealError):
        enclave.advance_counter("store", 1)


# --- where it is entered -------------------------------------------------------------------------


def test_outside_gramine(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read.*gramine-sgx"):
        GramineEnclave(tmp_path / "none")


def test_gramine_direct_cannot_attest(tmp_path):
    (tmp_path / "keys").mkdir()  # and nothing else, as gramine-direct has it
    with pytest.raises(ConfigError, match="gramine-direct cannot attest"):
        GramineEnclave(tmp_path)


def test_quote_file_that_is_missing(device, tmp_path):
    (device.root / "quote").unlink()
    with pytest.raises(ConfigError, match="gramine-direct cannot attest"):
        GramineEnclave(device.root, tmp_path)


@pytest.mark.parametrize("kind", [b"none", b"", b"epid", b"DCAP", b"dcap2", b"dcap\0"])
def test_only_dcap_attestation_is_taken(device, tmp_path, kind):
    (device.root / "attestation_type").write_bytes(kind)
    with pytest.raises(ConfigError, match='remote_attestation = "dcap"'):
        GramineEnclave(device.root, tmp_path)


def test_settings_that_are_missing(enclave, tmp_path):
    (tmp_path / "wardian.toml").unlink()
    with pytest.raises(ConfigError, match=r"wardian\.toml cannot be read: No such file"):
        enclave.agreed_config()


def test_host_settings_without_end_are_not_read(enclave, tmp_path):
    """The host writes that file; it may not fill the enclave's memory with it."""
    (tmp_path / "host.json").write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="too large"):
        enclave.host_settings()


def test_limit_is_the_last_length_that_is_taken(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    assert read_device(tmp_path / "file", limit=4) == b"1234"
    with pytest.raises(OSError, match="too large"):
        read_device(tmp_path / "file", limit=3)
