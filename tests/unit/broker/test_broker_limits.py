"""What strangers may cost, and how the room is loaded."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import wardian.broker
from wardian.broker.limits import Bucket, Place, Places, Ration, ServiceLimits, peer_of


def test_a_bucket_empties_and_refills() -> None:
    bucket = Bucket(per_s=2, burst=3, now=0)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [bucket.take(1000) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(999)  # a clock that goes back gives nothing
    assert not bucket.take(1000)


def test_refusals_beyond_the_ration_are_counted_in_one_line() -> None:
    ration = Ration(Bucket(per_s=0.1, burst=2, now=0))
    assert [ration.grants_line(0) for _ in range(5)] == [True, True, False, False, False]
    assert ration.settle(9) == 0
    assert not ration.grants_line(10)  # the line that counts the others comes first
    assert ration.settle(10) == 4
    assert (ration.settle(20), ration.close()) == (0, 0)
    assert ration.grants_line(20)


def test_what_was_counted_is_told_at_the_end_whatever_the_bucket_says() -> None:
    ration = Ration(Bucket(per_s=0, burst=0, now=0))
    assert not ration.grants_line(0)
    assert (ration.settle(10**9), ration.close(), ration.close()) == (0, 1, 0)


# Places


def held(places: Places, *peers: str, firm: bool = False) -> list[Place]:
    found = [Place(peer=peer, firm=firm) for peer in peers]
    assert [places.enter(place) for place in found] == [None] * len(found)
    return found


def test_a_peer_with_its_share_displaces_itself() -> None:
    places = Places(most=10, most_of_one=2)
    first, second = held(places, "a", "a")
    held(places, "b")
    assert places.enter(Place(peer="a")) is first
    assert places.enter(Place(peer="a")) is second


def test_where_all_places_are_taken_the_oldest_that_showed_nothing_goes() -> None:
    places = Places(most=3, most_of_one=2)
    shown, idle, _ = held(places, "a", "b", "c")
    shown.firm = True
    assert places.enter(Place(peer="d")) is idle
    places.leave(idle)  # its task ends later, and says so


def test_where_everybody_showed_something_the_newcomer_goes() -> None:
    places = Places(most=2, most_of_one=1)
    first, _ = held(places, "a", "b", firm=True)
    for peer in ("a", "c"):
        newcomer = Place(peer=peer)
        assert places.enter(newcomer) is newcomer
        places.leave(newcomer)
    places.leave(first)
    held(places, "c")


def test_a_share_is_a_quarter_and_room_for_a_laptop() -> None:
    limits = ServiceLimits()
    assert limits.connections_per_peer * 4 == limits.connections
    assert limits.connections_per_peer >= 16


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_whom_an_address_counts_for(one: str, other: str, same: bool) -> None:
    assert (peer_of(one) == peer_of(other)) is same


def test_the_room_exports_what_it_names_and_nothing_unsorted() -> None:
    names = wardian.broker.__all__
    assert names == sorted(names)
    assert len(names) <= 12
    assert dir(wardian.broker) == names
    for name in names:
        assert getattr(wardian.broker, name) is not None
    with pytest.raises(AttributeError):
        _ = wardian.broker.nothing  # type: ignore[attr-defined]


def test_the_manifest_loads_no_socket_no_store_and_no_tee() -> None:
    """A client reads manifests on any machine: what that loads is its trusted base."""
    code = (
        "import sys; import wardian.broker.manifest, wardian.broker.certificates;"
        "names = {m for m in sys.modules if m.startswith('wardian.')};"
        "bad = {'wardian.tee', 'wardian.broker.store', 'wardian.broker.service', 'wardian.broker.authority'};"
        "sys.exit(str(names & bad) if names & bad else 0)"
    )
    for blocked in ("fcntl", "uvloop", "openvino", "resource", "pwd", "sqlite3"):
        code = f"import sys; sys.modules[{blocked!r}] = None;" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


REPOSITORY = Path(__file__).parents[3]


def test_the_reference_names_every_rule_and_every_label() -> None:
    """What the code says on the wire, `docs/reference` explains; a rule that is new is written there."""
    source = "".join(path.read_text() for path in (REPOSITORY / "src/wardian/broker").glob("*.py"))
    pages = (REPOSITORY / "docs/reference" / name for name in ("protocol.md", "sealed-state.md"))
    protocol = "".join(page.read_text() for page in pages)
    rules = set(re.findall(r'rule="([a-z-]+)"', source))
    labels = set(re.findall(r'"(wardian [a-z ]+ v1)"', source)) - {
        "wardian broker store v1",  # at rest, in keys.md
        "wardian queue key id v1",
        "wardian broker root v1",
    }
    assert {rule for rule in rules if f"`{rule}`" not in protocol} == set()
    assert {label for label in labels if label not in protocol} == set()
