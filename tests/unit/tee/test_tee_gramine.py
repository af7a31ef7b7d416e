"""The Gramine backend, against files laid out as Gramine's."""

import pytest

from wardian.attestation.verifier import verify_quote
from wardian.errors import CollateralUnavailable, ConfigError, LocalProtocolError, SealError
from wardian.tee.gramine import GramineEnclave
from wardian.tee.launch.simulation import generate_platform

PLATFORM = generate_platform()


@pytest.fixture
def attestation(tmp_path):
    folder = tmp_path / "attestation"
    (folder / "keys").mkdir(parents=True)
    (folder / "attestation_type").write_bytes(b"dcap")
    (folder / "user_report_data").write_bytes(bytes(64))
    quote = PLATFORM.quote(mr_enclave=bytes(32), report_data=bytes(64))
    (folder / "quote").write_bytes(quote.ljust(8192, b"\0"))
    (folder / "keys" / "_sgx_mrenclave").write_bytes(b"s" * 16)
    (tmp_path / "wardian.toml").write_bytes(b"[mesh]")
    (tmp_path / "host.json").write_bytes(b"{}")
    return folder


@pytest.fixture
def enclave(attestation, tmp_path):
    return GramineEnclave(attestation, tmp_path)


def test_what_it_is(enclave):
    assert (enclave.name, enclave.simulated) == ("gramine", False)
    assert enclave.agreed_config() == b"[mesh]"
    assert enclave.host_settings() == b"{}"
    enclave.announce("ready", port=1)


def test_quote_over_report_data_without_collateral(enclave, attestation):
    evidence = enclave.evidence(b"r" * 64)
    assert (attestation / "user_report_data").read_bytes() == b"r" * 64
    assert len(evidence.quote) == 8192
    assert evidence.collateral == b""
    with pytest.raises(CollateralUnavailable):
        verify_quote(evidence.quote, evidence.collateral, root=PLATFORM.root_der, now=0)


def test_report_data_of_another_length(enclave):
    with pytest.raises(LocalProtocolError):
        enclave.evidence(bytes(32))


def test_sealing_key_is_derived_from_gramines(enclave, attestation):
    key = enclave.sealing_key()
    assert len(key) == 32
    assert key == enclave.sealing_key()
    assert b"s" * 16 not in key.reveal()
    (attestation / "keys" / "_sgx_mrenclave").write_bytes(b"t" * 16)
    assert key != enclave.sealing_key()


@pytest.mark.parametrize("key", [b"", b"s" * 15, b"s" * 32])
def test_sealing_key_that_gramine_never_gives(enclave, attestation, key):
    (attestation / "keys" / "_sgx_mrenclave").write_bytes(key)
    with pytest.raises(ConfigError, match="sealing key"):
        enclave.sealing_key()


def test_counters_fail_closed(enclave):
    with pytest.raises(SealError):
        enclave.read_counter("store")
    with pytest.raises(SealError):
        enclave.advance_counter("store", 1)


def test_gramine_direct_cannot_attest(attestation, tmp_path):
    (attestation / "attestation_type").write_bytes(b"none")
    with pytest.raises(ConfigError, match="remote_attestation"):
        GramineEnclave(attestation, tmp_path)


def test_outside_gramine(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        GramineEnclave(tmp_path / "none")


def test_report_data_that_cannot_be_written(enclave, attestation):
    (attestation / "user_report_data").unlink()
    (attestation / "user_report_data").mkdir()
    with pytest.raises(ConfigError, match="report data"):
        enclave.evidence(bytes(64))
