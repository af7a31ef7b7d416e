"""A simulated platform whose clock stands still, and the real quotes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attestation_cases import MEASUREMENT, NOW, REPORT_DATA

from wardian.attestation.appraisal.policy import AppraisalPolicy, MeasurementIn
from wardian.attestation.evidence import Evidence
from wardian.tee.launch.simulation import SimulatedPlatform, generate_platform


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    return generate_platform(clock=lambda: NOW)


@pytest.fixture(scope="session")
def evidence(platform: SimulatedPlatform) -> Evidence:
    return platform.evidence(mr_enclave=MEASUREMENT, report_data=REPORT_DATA, product_id=3, svn=4)


@pytest.fixture
def policy(platform: SimulatedPlatform) -> AppraisalPolicy:
    return AppraisalPolicy(
        roots=frozenset({platform.root_sha256}), rule=MeasurementIn(frozenset({MEASUREMENT}))
    )


@pytest.fixture(scope="session")
def real() -> Callable[[str], bytes]:
    folder = Path(__file__).parents[3] / "../shared/data/quotes"

    def read(name: str) -> bytes:
        if not (folder / name).exists():
            reason = "the real quotes are kept outside the repository, and are not here"
            if os.environ.get("WARDIAN_REQUIRE_ALL"):
                pytest.fail(reason)
            pytest.skip(reason)
        return (folder / name).read_bytes()

    return read
