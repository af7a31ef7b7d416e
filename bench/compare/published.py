"""What others said and measured: quoted beside our figures, and no part of them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Claim:
    """What the talk says of a technique, as times over clear text.

    Attributes:
        said: in words.
        least: times over clear text.
        most: likewise.
        paths: whose figures stand beside it.
    """

    technique: str
    said: str
    least: float
    most: float
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """A hardware overhead that a paper reports.

    Attributes:
        source: who, where, when.
        measured: what it was.
        figure: as its abstract has it.
    """

    source: str
    measured: str
    figure: str


CLAIMS: Final = (
    Claim("TEE", "10 % to 10 times", 1.1, 10.0, ("TEE, in process", "TEE, served")),
    Claim("MPC", "10 to 100 times", 10.0, 100.0, ("MPC, ABY3", "MPC, CHEETAH")),
    Claim("HE", "about 10,000 times", 10_000.0, 10_000.0, ("HE, CKKS",)),
)
"""Of the talk that the comparison is named after."""
HARDWARE: Final = (
    Published(
        "Chrapek et al., IISWC 2025 (arXiv 2509.18886)",
        "Llama 2 with 7, 13 and 70 billion parameters in TDX and SGX",
        "under 10 % of throughput, under 20 % of latency",
    ),
    Published(
        "Grover et al. (Privado), 2018 (arXiv 1810.00602)",
        "11 networks in SGX, made free of accesses that depend on the input",
        "17.18 % on average",
    ),
    Published(
        "Lee et al. (Occlumency), MobiCom 2019",
        "networks in the small memory of early SGX, and the same without their method",
        "within 72 % of latency; 3.6 times faster than without the method",
    ),
    Published(
        "Truong et al., 2021 (arXiv 2104.15109)",
        "networks larger than the enclave's memory, with and without their method",
        "1.09 to 2 times; up to 26 times unmodified",
    ),
    Published(
        "Gramine 1.9, documentation (performance), 2025",
        "PyTorch under Gramine on SGX, before and after a change of its OpenMP",
        "25 %, then 8 %",
    ),
)
"""Read in abstracts and documentation, not in whole papers. Nothing of it was measured here."""
