"""What strangers may cost, and how the room is loaded."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wardian.broker
from wardian.broker.limits import (
    GRACE_S,
    Bucket,
    OwnerLines,
    Place,
    Places,
    Ration,
    ServiceLimits,
    SharedBucket,
    peer_of,
)


def test_lines_of_several_owners_are_taken_of_all_or_of_none() -> None:
    lines = OwnerLines(per_s=0.5, burst=3)
    assert lines.take({"a": 3, "b": 1}, 0)
    assert not lines.take({"a": 1, "b": 1}, 0)  # nothing of b's goes with it
    assert lines.take({"b": 2}, 0)
    assert not lines.take({"b": 1}, 0)
    assert not lines.take({"c": 4}, 0)
    assert lines.take({"c": 3}, 0)
    assert lines.take({"a": 1, "b": 1}, 2)
    assert not lines.take({"a": 1}, 2)
    assert lines.take({}, 2)


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


def test_one_address_does_not_use_up_what_is_for_all() -> None:
    """It gets what nobody else asks for, and the others always find some."""
    shared = SharedBucket(per_s=50, burst=320, peer_per_s=1, peer_burst=64, now=0)
    assert sum(shared.take("greedy", 0) for _ in range(10_000)) == 256
    assert sum(shared.take("other", 0) for _ in range(65)) == 64
    assert not shared.take("other", 0)
    now = 0.0
    for _ in range(1000):  # it asks all the time, and somebody comes now and then
        now += 0.5
        while shared.take("greedy", now):
            pass
        assert shared.take(f"address {now:.0f}", now)


def test_an_address_alone_loses_nothing() -> None:
    """Many behind one address, or all of a mesh on one machine, get all that there is."""
    shared = SharedBucket(per_s=50, burst=320, peer_per_s=1, peer_burst=64, now=0)
    taken = sum(shared.take("crowd", second) for second in range(16) for _ in range(1000))
    assert taken >= 256 + 15 * 50


def test_many_addresses_get_no_more_than_there_is() -> None:
    shared = SharedBucket(per_s=2, burst=10, peer_per_s=1, peer_burst=4, now=0)
    assert sum(shared.take(f"peer {number}", 0) for number in range(100)) == 10
    assert sum(shared.take(f"late {number}", 1) for number in range(100)) == 2


def test_a_small_burst_is_for_all_who_are_entitled() -> None:
    """What one address may take for certain is more than there is at all."""
    shared = SharedBucket(per_s=0, burst=2, peer_per_s=1, peer_burst=64, now=0)
    assert [shared.take("one", 0) for _ in range(3)] == [True, True, False]


# Places


def places_of(**limits: int) -> Places:
    return Places(ServiceLimits(**limits))  # type: ignore[arg-type]


def held(places: Places, *peers: str, firm: bool = False, now: float = 0.0) -> list[Place]:
    """Let `peers` come; each gets a place at once."""
    found = [Place(peer=peer, firm=firm) for peer in peers]
    for place in found:
        assert places.arrive(place)
        assert places.enter(now) == (place, None)
        assert place.since == now
    return found


def test_a_peer_with_its_share_waits_for_itself_alone() -> None:
    places = places_of(connections=10, connections_per_peer=2)
    first, _ = held(places, "a", "a")
    waiting, other = Place(peer="a"), Place(peer="b")
    assert places.arrive(waiting)
    assert places.enter(GRACE_S / 2) is None
    assert places.arrive(other)  # behind the other in the line, and not held up by it
    assert places.enter(GRACE_S / 2) == (other, None)
    assert places.enter(GRACE_S / 2) is None
    places.leave(first)
    assert places.enter(GRACE_S / 2) == (waiting, None)
    assert places.due(GRACE_S) is None


def test_who_presents_nothing_gives_way_after_the_grace() -> None:
    places = places_of(connections=10, connections_per_peer=2)
    first, second = held(places, "a", "a")
    held(places, "b")
    newcomers = [Place(peer="a"), Place(peer="a")]
    assert all(places.arrive(each) for each in newcomers)
    assert places.due(0.0) == GRACE_S
    assert places.enter(GRACE_S) == (newcomers[0], first)
    assert places.enter(GRACE_S) == (newcomers[1], second)
    places.leave(first)  # its task ends later, and says so
    assert places.enter(GRACE_S) is None


def test_where_all_places_are_taken_the_oldest_that_showed_nothing_goes() -> None:
    places = places_of(connections=3, connections_per_peer=2)
    shown, idle, _ = held(places, "a", "b", "c")
    shown.firm = True
    newcomer = Place(peer="d")
    assert places.arrive(newcomer)
    assert places.enter(GRACE_S) == (newcomer, idle)


def test_where_everybody_showed_something_the_newcomer_waits() -> None:
    places = places_of(connections=2, connections_per_peer=1)
    first, _ = held(places, "a", "b", firm=True)
    crowd = [Place(peer="a"), Place(peer="c")]
    assert all(places.arrive(each) for each in crowd)
    assert places.enter(1e6) is None
    assert places.due(1e6) == GRACE_S  # nobody has to go: it is asked again later
    places.leave(crowd[0])  # it lost patience
    places.leave(first)
    assert places.enter(1e6) == (crowd[1], None)


def test_the_line_has_an_end_and_each_peer_its_own() -> None:
    places = places_of(connections=1, connections_per_peer=1, waiting=3, waiting_per_peer=2)
    held(places, "a", firm=True)
    assert [places.arrive(Place(peer=peer)) for peer in "aaabc"] == [True, True, False, True, False]


def test_t24_a_line_that_two_addresses_fill_has_room_for_a_third() -> None:
    """Else two of them keep every workload from its renewal, and the mesh ends with its leases."""
    places = places_of(connections=1, connections_per_peer=1, waiting=8, waiting_per_peer=5)
    held(places, "a")
    crowd = [Place(peer=peer) for peer in "aaaaabbb"]
    assert all(places.arrive(each) for each in crowd)
    honest = Place(peer="c")
    assert places.crowded_out(honest) is crowd[4]  # of the largest crowd, who came last
    assert places.arrive(honest)
    assert places.crowded_out(Place(peer="c")) is crowd[3]
    assert places.arrive(Place(peer="c"))
    # three each: nobody has two more than who comes would have
    for peer in "abc":
        assert places.crowded_out(Place(peer=peer)) is None
        assert not places.arrive(Place(peer=peer))


def test_t24_a_line_that_is_not_full_crowds_nobody_out() -> None:
    places = places_of(connections=1, connections_per_peer=1, waiting=8, waiting_per_peer=5)
    held(places, "a")
    for _ in range(5):
        assert places.crowded_out(Place(peer="a")) is None
        assert places.arrive(Place(peer="a"))
    assert places.crowded_out(Place(peer="b")) is None
    assert places.crowded_out(Place(peer="a")) is None
    assert not places.arrive(Place(peer="a"))


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
        "import sys; import wardian.broker.mesh.manifest, wardian.broker.certificates;"
        "names = {m for m in sys.modules if m.startswith('wardian.')};"
        "bad = {'wardian.tee', 'wardian.broker.state.store', 'wardian.broker.service', 'wardian.broker.authority'};"
        "sys.exit(str(names & bad) if names & bad else 0)"
    )
    for blocked in ("fcntl", "uvloop", "openvino", "resource", "pwd", "sqlite3"):
        code = f"import sys; sys.modules[{blocked!r}] = None;" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


REPOSITORY = Path(__file__).parents[3]


PAGES = (
    *("protocol", "mesh-manifest", "audit-log", "certificates", "broker-state", "kbs"),
    *("sealed-state", "keys", "sealed-request"),  # counters; keys at rest; request keys
    *("data-policy", "job"),
)


def test_the_reference_names_every_rule_and_every_label() -> None:
    """What the code says on the wire, `docs/reference` explains; a rule that is new is written there."""
    modules = list((REPOSITORY / "src/wardian/broker").rglob("*.py"))
    assert {"chain.py", "gathering.py", "witnessing.py"} <= {path.name for path in modules}
    source = "".join(path.read_text() for path in modules)
    pages = (REPOSITORY / "docs/reference" / f"{name}.md" for name in PAGES)
    reference = "".join(page.read_text() for page in pages)
    rules = set(re.findall(r'(?:rule=|_RULE: Final = )"([a-z0-9-]+)"', source))
    labels = set(re.findall(r'"(wardian [a-z0-9 ]+ v1)"', source))
    assert len(rules) > 70
    assert len(labels) > 60
    assert {rule for rule in rules if f"`{rule}`" not in reference} == set()
    assert {label for label in labels if label not in reference} == set()


def number(value: float) -> str:
    return f"{value:g}"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("connections at once", "{connections}, of one address {connections_per_peer}"),
        ("the first message", "within {first_message_s} s"),
        ("one connection", "{connection_s} s"),
        ("quotes", "{quote_burst} at once, then {quotes_per_s} a second"),
        (
            "quotes",
            "{peer_quote_burst} at once and {peer_quotes_per_s} a second are each address's",
        ),
        ("answers to who asks for the status", "{status_burst} at once, then {statuses_per_s} a"),
        ("answers to one address that asks", "{poll_burst} at once, then {polls_per_s} a second"),
        ("answers to who asks for proofs", "{proof_burst} at once, then {proofs_per_s} a second"),
        ("audit lines of refusals", "{line_burst} at once, then one in {line_s} s"),
        ("audit lines where genuine", "{judged_burst} at once, then {judged_per_s} a second"),
        ("refusals in the process", "{log_burst} at once, then one a second"),
        ("plans of jobs", "{plan_burst} at once, then {plans_per_s} a second"),
        ("audit lines of what jobs", "{granted_burst} KiB at once, then one in {granted_s} s"),
        ("visits of who says to be an owner", "{owners} at once"),
        ("visits that one owner signed", "{visit_burst} at once, then one in {visit_s} s"),
    ],
)
def test_the_reference_says_what_strangers_may_cost(what: str, said: str) -> None:
    limits = ServiceLimits()
    numbers = {name: number(value) for name, value in dataclasses.asdict(limits).items()}
    numbers |= {
        "line_s": number(1 / limits.lines_per_s),
        "granted_s": number(1 / limits.granted_per_s),
        "visit_s": number(1 / limits.visits_per_s),
    }
    text = (REPOSITORY / "docs/reference/protocol.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {what}"))
    assert said.format(**numbers) in row
    assert limits.logs_per_s == 1
