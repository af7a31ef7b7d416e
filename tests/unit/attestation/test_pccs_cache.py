"""What is kept about a model: the newest that is genuine, whoever writes to the directory."""

import dataclasses
import itertools
import json

import pytest
from collateral_cases import DAY, HOUR, NOW, changed, fields_of, impostor, made, model, signed

from wardian.attestation.collateral import cache as collateral_cache
from wardian.attestation.collateral.bundle import MAX_COLLATERAL_BYTES
from wardian.attestation.collateral.cache import CollateralCache, file_name
from wardian.attestation.collateral.signed import newest
from wardian.attestation.collateral.term import Part

OLD, NEW = signed(issued=NOW - 9 * DAY, number=16), signed(issued=NOW - DAY, number=17)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "a" / "cache"


@pytest.fixture
def path(directory):
    directory.mkdir(parents=True)
    return directory / file_name(model())


@pytest.fixture
def warned(caplog):
    caplog.set_level("WARNING")

    def names():
        return [(record.message, record.fields.get("error")) for record in caplog.records]

    return names


def test_nothing_is_known(directory, warned):
    assert CollateralCache(directory).load(model()) is None
    assert CollateralCache(None).load(model()) is None
    assert not directory.exists()
    assert warned() == []


def test_it_is_kept_in_memory_and_in_a_file_for_this_user_alone(directory):
    cache = CollateralCache(directory)
    assert cache.add(NEW) == (NEW, ())
    assert cache.load(model()) == NEW
    assert CollateralCache(directory).load(model()) == NEW
    (file,) = directory.iterdir()
    assert file.name == file_name(model())
    assert file.name.startswith("tdx-57524453494d-platform-")
    assert file.read_bytes() == NEW.encode()
    assert file.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_in_memory_alone():
    cache = CollateralCache(None)
    cache.add(NEW)
    assert cache.load(model()) == NEW


# --- attacks -------------------------------------------------------------------------------------


def test_older_collateral_does_not_come_back(directory):
    cache = CollateralCache(directory)
    cache.add(OLD)
    assert cache.add(NEW) == (NEW, ())
    assert cache.add(OLD) == (
        NEW,
        (Part.PCK_CRL, Part.ROOT_CA_CRL, Part.TCB_INFO, Part.QE_IDENTITY),
    )
    assert cache.load(model()) == NEW
    assert CollateralCache(directory).load(model()) == NEW


def test_an_earlier_evaluation_does_not_come_back_although_it_was_issued_later(directory):
    cache = CollateralCache(directory)
    cache.add(signed(issued=NOW - DAY, number=18))
    kept, went_back = cache.add(signed(issued=NOW - HOUR, number=17))
    assert went_back == (Part.TCB_INFO, Part.QE_IDENTITY)
    assert kept.terms[Part.TCB_INFO].evaluation == 18
    assert kept.terms[Part.PCK_CRL].issued == NOW - HOUR


def test_one_old_statement_among_new_ones(directory):
    """The revocation list on which the platform does not stand yet, with today's TCB info."""
    cache = CollateralCache(directory)
    cache.add(NEW)
    newer = signed(issued=NOW)
    mixed = dataclasses.replace(
        newer,
        collateral=dataclasses.replace(newer.collateral, pck_crl=OLD.collateral.pck_crl),
        terms=newer.terms | {Part.PCK_CRL: OLD.terms[Part.PCK_CRL]},
    )
    kept, went_back = cache.add(mixed)
    assert went_back == (Part.PCK_CRL,)
    assert kept.collateral.pck_crl == NEW.collateral.pck_crl
    assert kept.collateral.tcb_info == newer.collateral.tcb_info


def test_a_host_that_puts_an_older_file_back(directory, path):
    cache = CollateralCache(directory)
    cache.add(NEW)
    path.write_bytes(OLD.encode())
    assert cache.load(model()) == NEW
    path.unlink()
    assert cache.load(model()) == NEW


def test_every_field_altered_on_disk(directory, path, warned):
    raw = NEW.encode()
    for name, text in fields_of(raw).items():
        other = "1" if text[len(text) // 2] == "0" else "0"
        middle = len(text) // 2
        path.write_bytes(changed(raw, **{name: text[:middle] + other + text[middle + 1 :]}))
        assert CollateralCache(directory).load(model()) is None
    assert len(warned()) == 9
    assert {name for name, _ in warned()} == {"collateral.file_refused"}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\0" * 100, b"[" * 100_000, b" " * (MAX_COLLATERAL_BYTES + 1)]
)
def test_what_is_no_collateral_is_overwritten_by_the_next_that_is(directory, path, content, warned):
    path.write_bytes(content)
    cache = CollateralCache(directory)
    assert cache.load(model()) is None
    assert warned()[0][0] == "collateral.file_refused"
    cache.add(NEW)
    assert path.read_bytes() == NEW.encode()
    path.write_bytes(content)
    cache.add(NEW)
    assert path.read_bytes() == NEW.encode()


def test_somebody_elses_root_in_the_file(directory, path):
    path.write_bytes(made(pki=impostor()))
    assert CollateralCache(directory).load(model()) is None


def test_another_platforms_collateral_in_the_file(directory, path, warned):
    other = signed(tcb_info={"fmspc": "00A067110000"})
    path.write_bytes(other.encode())
    assert CollateralCache(directory).load(model()) is None
    assert warned() == [("collateral.file_refused", "AnotherModel")]


def test_a_file_that_is_none(directory, path, tmp_path, warned):
    import os

    os.mkfifo(path)
    assert CollateralCache(directory).load(model()) is None
    path.unlink()
    path.mkdir()
    assert CollateralCache(directory).load(model()) is None
    path.rmdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b"not collateral")
    path.symlink_to(secret)
    assert CollateralCache(directory).load(model()) is None
    CollateralCache(directory).add(NEW)
    assert secret.read_bytes() == b"not collateral"
    assert not path.is_symlink()


def test_a_directory_that_cannot_be_written(tmp_path, warned):
    (tmp_path / "file").write_bytes(b"")
    cache = CollateralCache(tmp_path / "file" / "cache")
    assert cache.add(NEW)[0] == NEW
    assert cache.load(model()) == NEW
    assert "collateral.not_written" in {name for name, _ in warned()}


# --- several models and processes ----------------------------------------------------------------


def test_models_are_apart(directory):
    cache = CollateralCache(directory)
    other = signed(tcb_info={"fmspc": "00A067110000"})
    cache.add(NEW)
    cache.add(other)
    assert cache.load(model()) == NEW
    assert cache.load(other.model) == other
    names = {
        file_name(dataclasses.replace(model(), **change))
        for change in ({}, {"root_sha256": bytes(32)}, {"fmspc": bytes(6)})
    }
    assert len(names) == 3


def test_what_another_process_wrote_is_seen(directory, path):
    first, second = CollateralCache(directory), CollateralCache(directory)
    first.add(OLD)
    second.add(NEW)
    assert first.load(model()) == NEW
    assert first.add(OLD)[0] == NEW


def test_no_order_of_events_goes_back(directory, path):
    """Two files put in by hand and two answers, in each order: it ends with the newest of all."""
    steps = [OLD, NEW, signed(issued=NOW - 5 * DAY, number=18), signed(issued=NOW, number=15)]
    best = newest(newest(newest(steps[0], steps[1]), steps[2]), steps[3])
    for order in itertools.permutations(range(4)):
        path.unlink(missing_ok=True)
        cache = CollateralCache(directory)
        for number in order:
            if number % 2:
                path.write_bytes(steps[number].encode())
                held = cache.load(model())
            else:
                held, _ = cache.add(steps[number])
            for part in Part:
                assert held.terms[part].rank >= steps[number].terms[part].rank
        assert cache.load(model()).terms == best.terms


def test_few_are_remembered(monkeypatch):
    monkeypatch.setattr(collateral_cache, "MAX_MODELS", 2)
    cache = CollateralCache(None)
    held = [signed(tcb_info={"fmspc": f"0000000000{last:02}"}) for last in range(3)]
    for each in held:
        cache.add(each)
    assert [cache.load(each.model) for each in held] == [None, *held[1:]]


def test_a_file_is_what_other_commands_read(directory, path):
    CollateralCache(directory).add(NEW)
    assert json.loads(path.read_bytes())["tcb_info"] == NEW.collateral.tcb_info
