"""Results that nobody has read yet."""

import pytest

from wardian.compat.zoo import mailbox
from wardian.compat.zoo.mailbox import KEPT_S, Mailbox, Mailboxes
from wardian.errors import QueueFull


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def put(box: Mailbox, uri: str, value: object) -> None:
    box.begin()
    box.end(uri, value)


def test_found_again_and_taken() -> None:
    box = Mailbox()
    put(box, "a:b c", 1)
    put(box, "d", 2)
    found = box.find("a:b c", remove=False)
    assert found is not None
    assert found.value == 1
    assert box.find("a:b c", remove=True) == found
    assert box.find("a:b c", remove=True) is None
    assert box.take_all() == {"d": 2}
    assert box.take_all() == {}


def test_the_newest_of_a_uri_counts() -> None:
    box = Mailbox()
    put(box, "a", 1)
    put(box, "a", 2)
    assert box.take_all() == {"a": 2}


def test_what_nobody_reads_goes() -> None:
    clock = Clock()
    box = Mailbox(clock=clock)
    put(box, "old", 1)
    clock.now = KEPT_S + 1
    put(box, "new", 2)
    assert box.take_all() == {"new": 2}


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAX_KEPT", 3)
    monkeypatch.setattr(mailbox, "MAX_PENDING", 2)
    box = Mailbox()
    for number in range(10):
        put(box, str(number), number)
    assert list(box.take_all()) == ["7", "8", "9"]
    box.begin()
    box.begin()
    with pytest.raises(QueueFull):
        box.begin()
    box.cancel()
    box.begin()
    assert box.pending == 2


def test_one_mailbox_for_each_name() -> None:
    boxes = Mailboxes()
    assert boxes.of("a") is boxes.of("a")
    assert boxes.of("a") is not boxes.of("b")
