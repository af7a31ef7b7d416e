"""Evidence for clients: bound to nonce and connection, rationed, and never in the way."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from simulators.front_end import MEASUREMENTS, make_manifest

from wardian.attestation.evidence import Evidence
from wardian.broker.ca import MeshCa
from wardian.errors import QueueFull, RequestError
from wardian.serving.api.evidence_desk import BURST, MAX_WAITING, EvidenceDesk
from wardian.serving.frontend_evidence import FrontendEvidence, frontend_report_data
from wardian.serving.http.messages import HttpResponse
from wardian.tee.simulation import SimulatedPlatform, generate_platform

NONCE = b"n" * 32
SPKI = b"the key of the connection"


class DeskCase:
    def __init__(self, platform: SimulatedPlatform) -> None:
        self.now = 0.0
        self.bound: list[bytes] = []
        self.raises: Exception | None = None
        self.manifest = make_manifest(platform)
        self.ca = MeshCa.create(mesh="test", simulated=True, now=1_790_000_000)
        self.desk = EvidenceDesk(
            attest=self.attest,
            manifest=self.manifest,
            mesh_ca=self.ca.certificate,
            clock=lambda: self.now,
        )

    def attest(self, report_data: bytes) -> Evidence:
        self.bound.append(report_data)
        if self.raises:
            raise self.raises
        return Evidence(quote=b"quote", collateral=b"collateral")

    async def ask(self, nonce: bytes = NONCE) -> HttpResponse:
        answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.desk.answer(nonce, tls_spki=SPKI, done=answered.set_result)
        return await answered


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


@pytest.mark.parametrize("nonce", [b"", b"n" * 31, b"n" * 33])
async def test_a_nonce_of_another_length(case: DeskCase, nonce: bytes) -> None:
    with pytest.raises(RequestError, match="32 bytes"):
        await case.ask(nonce)
    assert case.bound == []


async def test_the_ration_refills(case: DeskCase) -> None:
    for _ in range(BURST):
        assert (await case.ask()).status == 200
    with pytest.raises(QueueFull):
        await case.ask()
    case.now += 0.11
    for _ in range(2):
        await case.ask()
    with pytest.raises(QueueFull):
        await case.ask()
    case.now += 1000
    for _ in range(BURST):
        await case.ask()
    with pytest.raises(QueueFull):
        await case.ask()


async def test_only_so_many_wait(case: DeskCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wardian.serving.api.evidence_desk.BURST", 1000)
    case.now += 1000
    answers: list[Any] = []
    for _ in range(MAX_WAITING):
        case.desk.answer(NONCE, tls_spki=SPKI, done=answers.append)
    with pytest.raises(QueueFull):
        case.desk.answer(NONCE, tls_spki=SPKI, done=answers.append)
    while len(answers) < MAX_WAITING:
        await asyncio.sleep(0.001)
    assert (await case.ask()).status == 200


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
    for _ in range(8):
        case.desk.answer(NONCE, tls_spki=SPKI, done=answers.append)
    case.desk.close()
    while len(answers) < 8:
        await asyncio.sleep(0.001)
    assert {response.status for response in answers} <= {200, 503}


def test_the_measurements_of_the_fakes_differ() -> None:
    assert len(set(MEASUREMENTS.values())) == 3
