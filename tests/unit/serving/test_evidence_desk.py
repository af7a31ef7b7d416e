"""Evidence for clients: bound to nonce and connection, rationed, and never in the way."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from simulators.front_end import MEASUREMENTS, make_manifest, make_papers

from wardian.attestation.evidence import Evidence
from wardian.broker.ca import IssuingCa, MeshCa
from wardian.broker.mesh.verify import VerifiedManifest
from wardian.errors import QueueFull, RequestError
from wardian.serving.api.evidence_desk import BURST, EvidenceDesk
from wardian.serving.api.fair_line import MAX_IN_LINE, MAX_PER_CONNECTION, MAX_WAIT_S, FairLine
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data
from wardian.serving.http.messages import HttpResponse
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform

NONCE = b"n" * 32
SPKI = b"the key of the connection"


class DeskCase:
    def __init__(self, platform: SimulatedPlatform) -> None:
        self.now = 0.0
        self.bound: list[bytes] = []
        self.raises: Exception | None = None
        self.manifest = make_manifest(platform)
        self.ca = MeshCa.create(mesh="test", simulated=True, now=1_790_000_000)
        self.papers = make_papers(self.ca, self.issuer_of(self.manifest), self.manifest)
        self.desk = EvidenceDesk(
            attest=self.attest,
            papers=self.papers,
            clock=lambda: self.now,
        )

    def issuer_of(self, manifest: VerifiedManifest) -> IssuingCa:
        return self.ca.create_issuing(manifest_digest=manifest.digest, now=1_790_000_000)

    def attest(self, report_data: bytes) -> Evidence:
        self.bound.append(report_data)
        if self.raises:
            raise self.raises
        return Evidence(quote=b"quote", collateral=b"collateral")

    async def ask(self, nonce: bytes = NONCE) -> HttpResponse:
        answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.desk.answer(nonce, tls_spki=SPKI, connection=1, done=answered.set_result)
        return await answered

    def ask_as(self, connection: int, answers: list[Any]) -> None:
        """Ask for a connection; its number and the status go to `answers`."""
        self.desk.answer(
            NONCE,
            tls_spki=SPKI,
            connection=connection,
            done=lambda response: answers.append((connection, response.status)),
        )

    async def use_up_the_ration(self) -> None:
        for _ in range(BURST):
            assert (await self.ask()).status == 200


async def until(condition: Any) -> None:
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to pass")


@pytest.fixture(scope="module")
def platform() -> SimulatedPlatform:
    return generate_platform(clock=lambda: 1_790_000_000)


@pytest.fixture
def case(platform: SimulatedPlatform) -> Iterator[DeskCase]:
    made = DeskCase(platform)
    yield made
    made.desk.close()


async def test_evidence_binds_what_the_client_will_check(case: DeskCase) -> None:
    response = await case.ask()
    shown = msgspec.json.decode(response.body[0], type=FrontendEvidence)
    assert shown.evidence == Evidence(quote=b"quote", collateral=b"collateral")
    assert shown.manifest == case.manifest.signed
    assert shown.mesh_ca == case.ca.certificate
    assert shown.issuing_ca == case.papers.issuing_ca
    assert shown.witnessed == case.papers.witnessed
    assert case.bound == [
        frontend_report_data(
            nonce=NONCE,
            tls_spki=SPKI,
            ca_spki=case.ca.spki,
            manifest_digest=case.manifest.digest,
            version=3,
        )
    ]
    assert b"no-store" in response.headers


async def test_i6_who_waits_in_line_at_a_change_is_told_to_connect_again(
    case: DeskCase, platform: SimulatedPlatform
) -> None:
    """Evidence of the new manifest about a key of the old one would look like an attack."""
    await case.use_up_the_ration()
    answers: list[tuple[int, int]] = []
    case.ask_as(7, answers)
    same = make_papers(case.ca, case.issuer_of(case.manifest), case.manifest)
    case.desk.use(same)
    assert answers == []
    manifest = make_manifest(platform, version=4)
    case.desk.use(make_papers(case.ca, case.issuer_of(manifest), manifest))
    assert answers == [(7, 421)]
    case.now += 1
    assert (await case.ask()).status == 200
    assert answers == [(7, 421)]


async def test_after_a_change_evidence_is_of_the_new_manifest_and_of_nothing_old(
    case: DeskCase, platform: SimulatedPlatform
) -> None:
    """What was asked for before the change is made of what was shown then, as a whole."""
    answers: list[HttpResponse] = []
    case.desk.answer(NONCE, tls_spki=SPKI, connection=1, done=answers.append)
    other = make_manifest(platform, roles={"frontend": (MEASUREMENTS["frontend"],)})
    after = make_papers(case.ca, case.issuer_of(other), other)
    case.desk.use(after)
    response = await case.ask()
    await until(lambda: answers)
    for answer, papers in ((answers[0], case.papers), (response, after)):
        shown = msgspec.json.decode(answer.body[0], type=FrontendEvidence)
        assert (shown.manifest, shown.issuing_ca, shown.witnessed) == (
            papers.manifest.signed,
            papers.issuing_ca,
            papers.witnessed,
        )
    digests = [case.manifest.digest, other.digest]
    assert case.bound == [
        frontend_report_data(
            nonce=NONCE, tls_spki=SPKI, ca_spki=case.ca.spki, manifest_digest=digest, version=3
        )
        for digest in digests
    ]


@pytest.mark.parametrize("nonce", [b"", b"n" * 31, b"n" * 33])
async def test_a_nonce_of_another_length(case: DeskCase, nonce: bytes) -> None:
    with pytest.raises(RequestError, match="32 bytes"):
        await case.ask(nonce)
    assert case.bound == []


async def test_beyond_the_ration_one_waits_for_it_to_refill(case: DeskCase) -> None:
    await case.use_up_the_ration()
    answers: list[Any] = []
    case.ask_as(1, answers)
    await asyncio.sleep(0.12)
    assert (answers, len(case.bound)) == ([], BURST)
    case.now += 0.06
    await until(lambda: answers)
    assert answers == [(1, 200)]


async def test_who_asks_without_end_delays_a_newcomer_by_one_quote(case: DeskCase) -> None:
    await case.use_up_the_ration()
    answers: list[Any] = []
    for _ in range(MAX_PER_CONNECTION):
        case.ask_as(1, answers)
    with pytest.raises(QueueFull):
        case.ask_as(1, answers)
    case.ask_as(2, answers)
    case.ask_as(3, answers)
    case.now += 0.21
    await until(lambda: len(answers) == 4)
    assert [connection for connection, _ in answers] == [1, 2, 3, 1]


async def test_nobody_waits_for_ever(case: DeskCase) -> None:
    await case.use_up_the_ration()
    answers: list[Any] = []
    case.desk._tokens = -1000.0
    case.ask_as(1, answers)
    case.now += MAX_WAIT_S + 0.01
    await until(lambda: answers)
    assert answers == [(1, 429)]


async def test_only_so_many_wait(case: DeskCase) -> None:
    await case.use_up_the_ration()
    answers: list[Any] = []
    for connection in range(MAX_IN_LINE):
        case.ask_as(connection, answers)
    with pytest.raises(QueueFull):
        case.ask_as(MAX_IN_LINE, answers)
    case.desk.close()
    assert [status for _, status in answers] == [503] * MAX_IN_LINE


def test_a_line_is_fair_bounded_and_forgets() -> None:
    line: FairLine[str] = FairLine()
    for number, text in enumerate(("1a", "1b", "2a", "2b", "3a")):
        assert line.join(text, connection=int(text[0]), now=float(number))
    assert not line.join("1c", connection=1, now=5.0)
    assert line.next() == "1a"
    assert line.expired(MAX_WAIT_S + 2.5) == ["2a", "1b"]
    assert (len(line), [line.next(), line.next()]) == (2, ["2b", "3a"])
    assert line.join("1d", connection=1, now=9.0)
    assert (line.clear(), len(line)) == (["1d"], 0)
    with pytest.raises(KeyError):
        line.next()


async def test_an_attester_that_fails_is_an_outage_and_no_more(
    case: DeskCase, caplog: pytest.LogCaptureFixture
) -> None:
    case.raises = OSError("secret")
    response = await case.ask()
    assert (response.status, b"secret" in response.body[0]) == (503, False)
    assert "secret" not in caplog.text
    case.raises = None
    assert (await case.ask()).status == 200


async def test_what_waits_when_the_front_end_stops_is_told(case: DeskCase) -> None:
    answers: list[HttpResponse] = []
    for number in range(8):
        case.desk.answer(NONCE, tls_spki=SPKI, connection=number, done=answers.append)
    case.desk.close()
    while len(answers) < 8:
        await asyncio.sleep(0.001)
    assert {response.status for response in answers} <= {200, 503}


def test_the_measurements_of_the_fakes_differ() -> None:
    assert len(set(MEASUREMENTS.values())) == 3
