"""What a keeper of counters keeps: it grows, it stays, and one asker's trouble is no other's."""

from pathlib import Path

import pytest

from wardian.broker.counting.protocol import MAX_VALUE, Advance, decode_value, encode_value
from wardian.broker.keeping import ledger as module
from wardian.broker.keeping.ledger import MAX_NAMES, NEWCOMER_BURST, STEP_BURST, Ledger
from wardian.errors import PolicyDenied, QueueFull, SealError

US, THEM = b"u" * 32, b"t" * 32


class Sealing:
    """Seals by saying under which label, and for whom: whoever else opens it is refused."""

    def __init__(self, owner: str = "this keeper") -> None:
        self.owner = owner

    def seal(self, plaintext: bytes, *, label: str) -> bytes:
        return f"{self.owner}|{label}|".encode() + plaintext

    def unseal(self, sealed: bytes, *, label: str) -> bytes:
        prefix = f"{self.owner}|{label}|".encode()
        if not sealed.startswith(prefix):
            raise SealError("altered, or sealed by others")
        return sealed.removeprefix(prefix)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ledger_at(path: Path, *, sealing: Sealing | None = None, ticks: Clock | None = None) -> Ledger:
    return Ledger(path, sealing=sealing or Sealing(), ticks=ticks or Clock())


def step(at: int, to: int) -> Advance:
    return Advance(at=encode_value(at), to=encode_value(to))


def stands(ledger: Ledger, asker: bytes = US, counter: str = "c") -> int:
    return decode_value(ledger.take(asker, counter, None))


def test_a_number_grows_from_where_it_stands_and_survives(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    assert stands(ledger) == 0
    assert not ledger.knows(US)
    assert decode_value(ledger.take(US, "c", step(0, 5))) == 5
    assert decode_value(ledger.take(US, "c", step(5, MAX_VALUE))) == MAX_VALUE
    again = ledger_at(tmp_path)
    assert again.key.spki == ledger.key.spki
    assert again.knows(US)
    assert stands(again) == MAX_VALUE


@pytest.mark.parametrize(
    ("advance", "rule"),
    [
        (step(4, 6), "counter-moved"),
        (step(5, 5), "counter-range"),
        (step(5, 4), "counter-range"),
        (step(5, MAX_VALUE + 1), "counter-range"),
    ],
)
def test_t5_a_number_never_goes_back_or_from_elsewhere(
    tmp_path: Path, advance: Advance, rule: str
) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take(US, "c", step(0, 5))
    with pytest.raises(PolicyDenied) as refused:
        ledger.take(US, "c", advance)
    assert refused.value.rule == rule
    assert stands(ledger) == stands(ledger_at(tmp_path)) == 5


def test_askers_and_counters_are_apart(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take(US, "c", step(0, 5))
    ledger.take(US, "d", step(0, 6))
    ledger.take(THEM, "c", step(0, 7))
    assert [stands(ledger), stands(ledger, counter="d"), stands(ledger, THEM)] == [5, 6, 7]


def test_one_asker_s_file_in_another_s_place_is_refused(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take(US, "c", step(0, 5))
    ledger.take(THEM, "c", step(0, 7))
    (tmp_path / f"{US.hex()}.counters").write_bytes(
        (tmp_path / f"{THEM.hex()}.counters").read_bytes()
    )
    again = ledger_at(tmp_path)
    with pytest.raises(SealError, match="another asker"):
        stands(again)
    assert stands(again, THEM) == 7  # and nobody else is affected


def test_what_was_altered_is_refused_to_its_asker_alone(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take(US, "c", step(0, 5))
    ledger.take(THEM, "c", step(0, 7))
    (tmp_path / f"{US.hex()}.counters").write_bytes(b"garbage")
    again = ledger_at(tmp_path)
    with pytest.raises(SealError):
        again.take(US, "c", step(0, 1))
    assert stands(again, THEM) == 7
    (tmp_path / f"{US.hex()}.counters").unlink()
    (tmp_path / f"{US.hex()}.counters").mkdir()
    with pytest.raises(SealError, match="cannot be read"):
        stands(again)


def test_other_code_or_another_machine_is_another_keeper(tmp_path: Path) -> None:
    ledger_at(tmp_path).take(US, "c", step(0, 5))
    with pytest.raises(SealError):
        ledger_at(tmp_path, sealing=Sealing("another"))


def test_a_keeper_whose_key_was_taken_away_does_not_begin_anew_beside_its_numbers(
    tmp_path: Path,
) -> None:
    ledger_at(tmp_path).take(US, "c", step(0, 5))
    (tmp_path / "identity.sealed").unlink()
    with pytest.raises(SealError, match="another keeper"):
        ledger_at(tmp_path)


def test_a_full_disk_costs_the_step_and_not_the_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take(US, "c", step(0, 5))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_file", full)
        with pytest.raises(SealError, match="No space left"):
            ledger.take(US, "c", step(5, 6))
        assert stands(ledger) == 5
    assert decode_value(ledger.take(US, "c", step(5, 6))) == 6


def test_a_number_whose_name_may_not_be_on_the_disk_is_looked_up_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take(US, "c", step(0, 5))

    def failing(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(module, "sync_directory", failing)
        for _ in range(2):
            with pytest.raises(SealError):
                ledger.take(US, "c", step(5, 6))
            with pytest.raises(SealError):
                stands(ledger)  # told is only what is sure to stay
    assert stands(ledger) == stands(ledger_at(tmp_path)) == 6


def test_rooms_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_at(tmp_path)
    for number in range(MAX_NAMES):
        ledger.take(US, f"c{number}", step(0, 1))
    with pytest.raises(PolicyDenied, match="64 counters"):
        ledger.take(US, "more", step(0, 1))
    monkeypatch.setattr(module, "MAX_ASKERS", 1)
    with pytest.raises(PolicyDenied, match="askers"):
        ledger.take(THEM, "c", step(0, 1))
    assert stands(ledger, THEM) == 0  # who only reads takes no room
    assert decode_value(ledger.take(US, "c0", step(1, 2))) == 2


def test_t24_newcomers_and_steps_are_rationed_and_who_counts_here_is_not_held_up(
    tmp_path: Path,
) -> None:
    ticks = Clock()
    ledger = ledger_at(tmp_path, ticks=ticks)
    ledger.take(US, "c", step(0, 1))
    for number in range(1, NEWCOMER_BURST):
        ledger.take(bytes([number]) * 32, "c", step(0, 1))
    with pytest.raises(QueueFull, match="begin to count"):
        ledger.take(THEM, "c", step(0, 1))
    for number in range(1, STEP_BURST + 1):
        ledger.take(US, "c", None if number % 2 else step(number // 2, number // 2 + 1))
    with pytest.raises(QueueFull, match="counts more often"):
        ledger.take(US, "c", None)
    ledger.take(bytes([1]) * 32, "c", step(1, 2))
    ticks.now += 61
    ledger.take(THEM, "c", step(0, 1))


def test_an_asker_is_a_key(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="32 bytes"):
        ledger_at(tmp_path).take(b"../identity", "c", None)
