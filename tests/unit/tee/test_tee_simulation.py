"""The simulated platform: who can read it, what it keeps, what it says it is."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from wardian._internal import wire
from wardian.attestation.verifier import verify_quote
from wardian.errors import ConfigError, EvidenceInvalid, LocalProtocolError
from wardian.tee.launch.simulation import (
    _Stored,
    create_platform,
    generate_platform,
    load_platform,
    open_platform,
)

NOW = 1_800_000_000
MEASUREMENT = hashlib.sha256(b"an enclave").digest()


def clock():
    return NOW


def test_nobody_else_can_read_it(tmp_path):
    directory = tmp_path / "state" / "simulation"
    create_platform(directory, clock=clock)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"platform.json": 0o600, "root.der": 0o600}
    assert [path.name for path in directory.parent.iterdir()] == ["simulation"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_one_that_others_can_read_is_refused(tmp_path, mode):
    create_platform(tmp_path / "p", clock=clock)
    (tmp_path / "p" / "platform.json").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_platform(tmp_path / "p", clock=clock)


def test_it_stays_the_same(tmp_path):
    made = create_platform(tmp_path / "p", clock=clock)
    loaded = load_platform(tmp_path / "p", clock=clock)
    assert loaded.root_der == made.root_der == (tmp_path / "p" / "root.der").read_bytes()
    assert loaded.mr_signer == made.mr_signer
    assert loaded.ppid == made.ppid
    assert loaded.pck_serial == made.pck_serial
    assert loaded.sealing_key(MEASUREMENT) == made.sealing_key(MEASUREMENT)
    quote = loaded.quote(mr_enclave=MEASUREMENT, report_data=bytes(64))
    claims = verify_quote(quote, made.collateral(), root=made.root_der, now=NOW)
    assert claims.measurement == MEASUREMENT


def test_two_platforms_share_nothing():
    one, other = generate_platform(clock=clock), generate_platform(clock=clock)
    assert one.root_sha256 != other.root_sha256
    assert one.mr_signer != other.mr_signer
    assert one.ppid != other.ppid
    assert one.sealing_key(MEASUREMENT) != other.sealing_key(MEASUREMENT)
    quote = one.quote(mr_enclave=MEASUREMENT, report_data=bytes(64))
    with pytest.raises(EvidenceInvalid):
        verify_quote(quote, one.collateral(), root=other.root_der, now=NOW)


def test_its_root_says_what_it_is():
    subject = x509.load_der_x509_certificate(generate_platform().root_der).subject
    assert "Wardian Simulation Root" in subject.rfc4514_string()
    assert "protects nothing" in subject.rfc4514_string()


def test_sealing_keys_belong_to_measurements():
    platform = generate_platform(clock=clock)
    key = platform.sealing_key(MEASUREMENT)
    assert len(key) == 32
    assert key == platform.sealing_key(MEASUREMENT)
    assert key != platform.sealing_key(bytes(32))


def test_t6_sealing_keys_of_the_signer_belong_to_product_ids():
    """A job enclave of the same signer does not get what the broker gets."""
    platform, other = generate_platform(clock=clock), generate_platform(clock=clock)
    broker = platform.signer_sealing_key(1)
    assert len(broker) == 32
    assert broker == platform.signer_sealing_key(1)
    assert broker != platform.signer_sealing_key(2)
    assert broker != other.signer_sealing_key(1)
    assert broker != platform.sealing_key(platform.mr_signer)


def test_processes_that_start_together_share_one(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_platform(tmp_path / "s" / "p"), range(8)))
    assert len({platform.root_sha256 for platform in opened}) == 1
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["p"]


def test_creating_twice_is_refused(tmp_path):
    create_platform(tmp_path / "p", clock=clock)
    with pytest.raises(ConfigError, match="cannot create"):
        create_platform(tmp_path / "p", clock=clock)


def test_no_place_for_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot (create|be read)"):
        open_platform(tmp_path / "file" / "p", clock=clock)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_platform(tmp_path / "none", clock=clock)


@pytest.mark.parametrize("content", [b"", b"{}", b"junk"])
def test_damaged(tmp_path, content):
    create_platform(tmp_path / "p", clock=clock)
    (tmp_path / "p" / "platform.json").write_bytes(content)
    with pytest.raises(ConfigError, match="damaged; remove"):
        load_platform(tmp_path / "p", clock=clock)


def test_key_of_another_kind(tmp_path):
    create_platform(tmp_path / "p", clock=clock)
    path = tmp_path / "p" / "platform.json"
    stored = wire.decode(path.read_bytes(), _Stored, what="platform")
    foreign = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    altered = _Stored(
        keys=(foreign, *stored.keys[1:]),
        certificates=stored.certificates,
        sealing_secret=stored.sealing_secret,
        signer=stored.signer,
        ppid=stored.ppid,
    )
    path.write_bytes(wire.encode(altered))
    with pytest.raises(ConfigError, match="damaged"):
        load_platform(tmp_path / "p", clock=clock)


@pytest.mark.parametrize(
    ("field", "value"),
    [("mr_enclave", b"short"), ("report_data", bytes(32)), ("mr_signer", b"")],
)
def test_report_of_another_length_is_our_bug(field, value):
    fields = {"mr_enclave": MEASUREMENT, "report_data": bytes(64)} | {field: value}
    with pytest.raises(LocalProtocolError):
        generate_platform(clock=clock).quote(**fields)
