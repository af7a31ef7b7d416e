"""Evidence is completed with the newest that is genuine; a service that fails costs nothing else."""

import threading

import pytest
from collateral_cases import (
    DAY,
    HOUR,
    NOW,
    changed,
    crl,
    fields_of,
    impostor,
    machine,
    made,
    model,
    root_sha256,
    signed,
)

from wardian._internal import settings
from wardian._internal.operator import Operator
from wardian.attestation.collateral import pccs_source
from wardian.attestation.collateral import source as collateral_source
from wardian.attestation.collateral.cache import CollateralCache, file_name
from wardian.attestation.collateral.pccs_source import (
    REFRESH_S,
    RETRY_S,
    PccsCollateral,
    open_source,
)
from wardian.attestation.collateral.signed import verify_collateral
from wardian.attestation.collateral.source import SOON_S, CachedCollateral, NoCollateral
from wardian.attestation.collateral.term import Part
from wardian.attestation.evidence import Evidence
from wardian.attestation.verifier import verify_quote
from wardian.errors import (
    CollateralUnavailable,
    ConfigError,
    EvidenceInvalid,
    EvidenceStale,
    TcbUnacceptable,
    Timeout,
)

QUOTE = machine().quote()
ROOTS = frozenset({root_sha256()})


class Service:
    """A PCCS that says what a test puts into `says`: collateral, or an error."""

    def __init__(self, says: bytes | Exception) -> None:
        self.says, self.asked = says, 0

    def fetch(self, about):
        assert about == model()
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


DOWN = Timeout("pccs.example:8081: no answer within 10 seconds")
FRESH = made()


class World:
    def __init__(self, says=FRESH, directory=None, **options) -> None:
        self.service, self.clock = Service(says), Clock()
        self.cache = CollateralCache(directory)
        self.source = PccsCollateral(self.service, self.cache, clock=self.clock, **options)

    def complete(self, sent=b"", *, now=NOW, quote=QUOTE, roots=ROOTS):
        evidence = Evidence(quote=quote, collateral=sent)
        return self.source.complete(evidence, roots=roots, now=now)


def verified(evidence, now=NOW):
    return verify_quote(evidence.quote, evidence.collateral, root=machine().root_der, now=now)


@pytest.fixture
def events(caplog):
    caplog.set_level("INFO")

    def names():
        found = [record.message for record in caplog.records]
        caplog.clear()
        return found

    return names


# --- a service -----------------------------------------------------------------------------------


def test_evidence_without_collateral_gets_the_services(events):
    world = World()
    completed = world.complete()
    assert completed.quote == QUOTE
    assert fields_of(completed.collateral) == fields_of(FRESH)
    assert verified(completed).tcb_evaluation_number == 17
    assert events() == ["collateral.fetched"]


def test_it_is_asked_once_a_day(events):
    world = World()
    for hours in range(24):
        world.clock.now = 1000 + hours * HOUR
        world.complete(now=NOW + hours * HOUR)
    assert world.service.asked == 1
    world.clock.now = 1000 + REFRESH_S
    world.complete(now=NOW + DAY)
    assert world.service.asked == 2


def test_a_new_process_asks_although_the_cache_is_fresh(tmp_path):
    World(directory=tmp_path).complete()
    world = World(directory=tmp_path)
    world.complete()
    assert world.service.asked == 1


def test_a_revocation_shows_within_a_day():
    """The attester goes on sending collateral of before; it has not ended."""
    world = World()
    sent = made(issued=NOW - 2 * HOUR)
    serial = machine().pki.pck.certificate.serial_number
    verified(world.complete(sent))
    revoked = crl(machine().pki.pck_ca, revoked=(serial,), issued=NOW)
    world.service.says = changed(made(issued=NOW), pck_crl=revoked)
    world.clock.now += REFRESH_S
    with pytest.raises(TcbUnacceptable, match="revoked"):
        verified(world.complete(sent, now=NOW + HOUR), now=NOW + HOUR)


def test_what_the_attester_sent_counts_where_it_is_newer():
    world = World()
    newer, older = made(issued=NOW, number=18), made(issued=NOW - DAY)
    assert fields_of(world.complete(newer).collateral) == fields_of(newer)
    assert fields_of(world.complete(older).collateral) == fields_of(FRESH)
    mixed = changed(newer, pck_crl=fields_of(older)["pck_crl"])
    completed = fields_of(world.complete(mixed).collateral)
    assert completed["pck_crl"] == fields_of(FRESH)["pck_crl"]
    assert completed["tcb_info"] == fields_of(newer)["tcb_info"]


def test_what_the_attester_sent_is_not_kept():
    """He would hold everybody to a statement that the service will not have for months."""
    world = World()
    world.complete(made(issued=NOW, number=99))
    assert world.cache.load(model()).terms[Part.TCB_INFO].evaluation == 17
    assert fields_of(world.complete().collateral) == fields_of(FRESH)


# --- attacks on the service ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (made(pki=impostor()), "EvidenceInvalid"),  # a forged root
        (made(tcb_info={"fmspc": "00A067110000"}), "EvidenceInvalid"),  # another platform's
        (changed(FRESH, tcb_info_signature="00" * 64), "EvidenceInvalid"),
        (changed(FRESH, pck_crl=crl(impostor().pck_ca)), "EvidenceInvalid"),
        (b"<html>", "FormatError"),
        (b"", "CollateralUnavailable"),
    ],
)
def test_what_is_not_genuine_replaces_nothing(says, error, events, caplog, tmp_path):
    world = World(says, tmp_path)
    with pytest.raises(
        CollateralUnavailable, match="no collateral about TDX 57524453494d platform"
    ):
        world.complete()
    assert [record.fields["error"] for record in caplog.records] == [error]
    assert list(tmp_path.iterdir()) == []
    world.service.says = FRESH
    world.clock.now += RETRY_S
    held = world.complete()
    world.service.says = says
    world.clock.now += REFRESH_S
    assert world.complete() == held
    assert world.cache.load(model()).encode() == held.collateral
    assert (tmp_path / file_name(model())).read_bytes() == held.collateral


def test_older_replaced_by_newer_and_back(events):
    world = World(made(issued=NOW - 5 * DAY, number=16))
    world.complete()
    world.service.says = made(issued=NOW - DAY, number=17)
    world.clock.now += REFRESH_S
    newest = world.complete()
    assert verified(newest).tcb_evaluation_number == 17
    events()
    world.service.says = made(issued=NOW - 5 * DAY, number=16)
    world.clock.now += REFRESH_S
    assert world.complete() == newest
    assert events() == ["collateral.went_back", "collateral.fetched"]


def test_a_service_that_is_down_is_left_alone_for_a_while(events):
    world = World(DOWN)
    for _ in range(10):
        with pytest.raises(CollateralUnavailable, match="no answer within 10 seconds"):
            world.complete()
        world.clock.now += 1
    assert world.service.asked == 1
    world.clock.now = 1000 + RETRY_S
    with pytest.raises(CollateralUnavailable):
        world.complete()
    assert world.service.asked == 2
    assert events() == ["collateral.fetch_failed"] * 2


def test_a_service_that_goes_down_is_left_alone_too():
    world = World()
    held = world.complete()
    world.service.says = DOWN
    world.clock.now += REFRESH_S
    for _ in range(10):
        assert world.complete() == held
        world.clock.now += RETRY_S / 10
    assert world.service.asked == 2
    world.complete()
    assert world.service.asked == 3


def test_a_service_that_is_down_does_not_keep_anybody_who_brings_his_own():
    world = World(DOWN)
    sent = made()
    assert fields_of(world.complete(sent).collateral) == fields_of(sent)


def test_the_old_stays_in_use_until_it_ends_and_is_warned_of(events):
    world = World(made(issued=NOW, ends=NOW + 30 * DAY))
    world.complete()
    world.service.says = DOWN
    seen = []
    for day in range(1, 30):
        world.clock.now = 1000 + day * DAY
        verified(world.complete(now=NOW + day * DAY), now=NOW + day * DAY)
        seen.append(("collateral.expires_soon" in events(), day))
    assert [day for soon, day in seen if soon] == [24, 25, 26, 27, 28, 29]
    asked = world.service.asked
    with pytest.raises(
        CollateralUnavailable, match="ended 2027-02-14 08:00 UTC: the PCCS gave none"
    ):
        world.complete(now=NOW + 30 * DAY)
    assert world.service.asked == asked  # just now
    world.clock.now += RETRY_S
    world.service.says = made(issued=NOW + 30 * DAY, ends=NOW + 60 * DAY)
    verified(world.complete(now=NOW + 30 * DAY + 60), now=NOW + 30 * DAY + 60)


def test_what_ends_soon_is_asked_for_each_hour(events):
    world = World(made(issued=NOW - 24 * DAY, ends=NOW + 6 * DAY))
    for _ in range(4):
        world.complete()
        world.clock.now += SOON_S / 2
    assert world.service.asked == 2
    assert events().count("collateral.expires_soon") == 2


def test_a_service_that_serves_what_has_ended():
    world = World(made(issued=NOW - 31 * DAY, ends=NOW - DAY))
    with pytest.raises(CollateralUnavailable, match="ended .*: the PCCS has nothing newer"):
        world.complete()
    world.clock.now += RETRY_S
    world.service.says = FRESH
    assert fields_of(world.complete().collateral) == fields_of(FRESH)


def test_a_chosen_margin(events):
    World(warn_before_s=31 * DAY).complete()
    assert "collateral.expires_soon" in events()


# --- attacks on the clock ------------------------------------------------------------------------


def test_a_clock_set_back_does_not_bring_old_statements_back(tmp_path):
    """What the vendor signed yesterday proves that it is not last month."""
    old = made(issued=NOW, ends=NOW + 30 * DAY)
    world = World(old, tmp_path)
    back = NOW + 20 * DAY  # the true time is a month later
    verified(world.complete(now=back), now=back)
    world.service.says = made(issued=NOW + 50 * DAY, ends=NOW + 80 * DAY)
    world.clock.now += REFRESH_S
    for sent in (b"", old):
        with pytest.raises(EvidenceStale, match="check this machine's clock"):
            verified(world.complete(sent, now=back), now=back)
    later = World(DOWN, tmp_path)  # after a start, too
    with pytest.raises(EvidenceStale):
        verified(later.complete(old, now=back), now=back)


# --- who may make us ask -------------------------------------------------------------------------


def test_nobody_is_asked_for_what_is_no_quote_of_a_known_root():
    world = World()
    forged = (
        machine()
        .quote()
        .replace(machine().pki.pck.pem.encode()[400:500], machine().pki.pck.pem.encode()[300:400])
    )
    for quote, roots in (
        (b"", ROOTS),
        (b"\3" * 2000, ROOTS),
        (QUOTE, frozenset()),
        (QUOTE, frozenset({bytes(32)})),
        (forged, ROOTS),
    ):
        evidence = Evidence(quote=quote, collateral=b"as it came")
        assert world.source.complete(evidence, roots=roots, now=NOW) == evidence
    assert world.service.asked == 0


def test_what_was_sent_and_is_wrong_goes_on_as_it_is_where_there_is_nothing_else():
    world = World(DOWN)
    for sent in (b"nonsense", made(pki=impostor()), made(tcb_info={"fmspc": "00A067110000"})):
        assert world.complete(sent).collateral == sent
    with pytest.raises(EvidenceInvalid):
        verified(world.complete(made(pki=impostor())))


def test_what_was_sent_and_is_wrong_is_replaced():
    world = World()
    for sent in (b"nonsense", made(pki=impostor()), made(tcb_info={"fmspc": "00A067110000"})):
        assert fields_of(world.complete(sent).collateral) == fields_of(FRESH)


def test_few_models_are_kept_track_of(monkeypatch):
    for module in (collateral_source, pccs_source):
        monkeypatch.setattr(module, "MAX_MODELS", 1)
    world = World()
    other = signed(tcb_info={"fmspc": "00A067110000"})
    world.complete()
    world.source._warn(other, NOW)
    world.source._turn(other.model)
    assert list(world.source._warn_at) == [other.model]
    assert list(world.source._turns) == [other.model]


# --- several at once -----------------------------------------------------------------------------


def test_one_asks_and_the_others_wait_for_nothing_that_they_have():
    world = World(made(issued=NOW - DAY))
    world.complete()
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Service):
        def fetch(self, about):
            inside.set()
            assert go_on.wait(10)
            return super().fetch(about)

    world.source._fetcher = slow = Slow(FRESH)
    world.clock.now += REFRESH_S
    results = []
    first = threading.Thread(target=lambda: results.append(world.complete()))
    first.start()
    assert inside.wait(10)
    at_once = world.complete()  # while the first is still waiting
    assert at_once.collateral != FRESH
    go_on.set()
    first.join(10)
    assert slow.asked == 1
    assert fields_of(results[0].collateral) == fields_of(FRESH)


def test_with_nothing_to_use_the_others_wait_and_do_not_ask_again():
    world = World()
    world.service.fetch, original = (
        lambda about: (released.wait(10), original(about))[1],
        world.service.fetch,
    )
    released = threading.Event()
    results = []
    threads = [threading.Thread(target=lambda: results.append(world.complete())) for _ in range(5)]
    for thread in threads:
        thread.start()
    released.set()
    for thread in threads:
        thread.join(10)
    assert world.service.asked == 1
    assert len(results) == 5
    assert len({result.collateral for result in results}) == 1


# --- without evidence ----------------------------------------------------------------------------


def test_refresh_asks_for_what_is_due_and_warns(events):
    world = World(made(issued=NOW, ends=NOW + 30 * DAY))
    world.source.refresh(NOW)
    assert world.service.asked == 0  # no model came up yet
    world.complete()
    events()
    world.source.refresh(NOW)
    assert events() == []
    world.service.says = DOWN
    world.clock.now += 25 * DAY
    world.source.refresh(NOW + 25 * DAY)
    assert events() == ["collateral.fetch_failed", "collateral.expires_soon"]


# --- offline, and nothing ------------------------------------------------------------------------


def test_offline_with_what_somebody_carried_there(tmp_path, events):
    source = CachedCollateral(CollateralCache(tmp_path))
    evidence = Evidence(quote=QUOTE, collateral=b"")
    with pytest.raises(CollateralUnavailable, match="no PCCS is configured"):
        source.complete(evidence, roots=ROOTS, now=NOW)
    (tmp_path / file_name(model())).write_bytes(FRESH)
    completed = source.complete(evidence, roots=ROOTS, now=NOW)
    assert fields_of(completed.collateral) == fields_of(FRESH)
    assert events() == []
    source.refresh(NOW + 25 * DAY)
    assert events() == ["collateral.expires_soon"]
    with pytest.raises(CollateralUnavailable, match="bring newer files"):
        source.complete(evidence, roots=ROOTS, now=NOW + 31 * DAY)


def test_refresh_forgets_what_was_taken_away(tmp_path, events):
    source = CachedCollateral(CollateralCache(tmp_path))
    source.complete(Evidence(quote=QUOTE, collateral=FRESH), roots=ROOTS, now=NOW)
    source.refresh(NOW + 29 * DAY)  # the attester sent it, the cache has none
    assert events() == []


def test_without_a_source_what_was_sent_has_to_do(events):
    source = NoCollateral()
    with pytest.raises(CollateralUnavailable, match="neither a PCCS nor a cache"):
        source.complete(Evidence(quote=QUOTE, collateral=b""), roots=ROOTS, now=NOW)
    sent = Evidence(quote=QUOTE, collateral=FRESH)
    assert source.complete(sent, roots=ROOTS, now=NOW) is sent  # no signature is checked twice
    assert events() == []


# --- configuration -------------------------------------------------------------------------------


def opened(text):
    return open_source(settings.parse(text, Operator, name="operator.toml").collateral)


def test_what_is_configured(tmp_path):
    assert type(opened(b"")) is NoCollateral
    cache = f'cache = "{tmp_path}"\n'.encode()
    assert type(opened(b"[collateral]\n" + cache)) is CachedCollateral
    pccs = b'[collateral]\npccs = "https://pccs.example:8081"\nupdate = "early"\n'
    source = opened(pccs + cache + b"warn_before_s = 86400\n")
    assert type(source) is PccsCollateral
    (question, *_) = source._fetcher._pccs.questions(model()).values()
    assert (question.host, source._fetcher._pccs.update) == ("pccs.example", "early")
    assert source._warn_before_s == DAY
    assert type(opened(pccs)) is PccsCollateral


@pytest.mark.parametrize(
    "text",
    [
        b'pccs = "file:///etc/passwd"',
        b'update = "never"',
        b"warn_before_s = 0",
        b"verify = false",
        b"pccs = 1",
    ],
)
def test_wrong_settings(text):
    with pytest.raises(ConfigError):
        opened(b"[collateral]\n" + text + b"\n")


def test_nothing_is_asked_that_nobody_configured(monkeypatch):
    """No address is built in: nothing phones home."""
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_, **__: pytest.fail("somebody was looked up")
    )
    sent = Evidence(quote=QUOTE, collateral=FRESH)
    opened(b"").complete(sent, roots=ROOTS, now=NOW)
    opened(b"").refresh(NOW)


def test_what_comes_out_is_genuine_too():
    assert verify_collateral(World().complete().collateral, root_sha256=root_sha256())
