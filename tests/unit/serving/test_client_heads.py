"""A client and the audit log of the mesh: whose head it takes, and which witnesses it demands."""

import time
from pathlib import Path

import msgspec
import pytest
from simulators.front_end import make_papers
from test_client_policy import NOW, Shown, ca, platform, policy, shown, verify

from wardian.broker.ca import MeshCa
from wardian.broker.transparency.cosigning import Cosigned, HeadDemand, WitnessedHead, cosign
from wardian.crypto.signing import SigningKey
from wardian.errors import ConfigError, EvidenceInvalid, PolicyDenied
from wardian.serving.client.policy import ClientPolicy, load_client_policy
from wardian.serving.frontend_evidence import FrontendEvidence

__all__ = ["ca", "platform", "shown"]  # fixtures

WITNESS, OTHER = SigningKey.generate(), SigningKey.generate()
replace = msgspec.structs.replace


def demanding(shown: Shown, *keys: SigningKey, threshold: int = 1) -> ClientPolicy:
    return policy(
        shown.platform,
        manifest_digest=shown.manifest.digest,
        heads=HeadDemand(
            witnesses=frozenset(key.public.hex() for key in keys),
            threshold=threshold,
            max_lines=0,
            max_age_s=60,
        ),
    )


def with_log(evidence: FrontendEvidence, witnessed: WitnessedHead) -> FrontendEvidence:
    return replace(evidence, witnessed=witnessed)


def judged(shown: Shown, evidence: FrontendEvidence, wanted: ClientPolicy) -> WitnessedHead:
    return verify(evidence, wanted, certificate=shown.certificate).witnessed


def signed_by(evidence: FrontendEvidence, *keys: SigningKey, at: int = NOW) -> WitnessedHead:
    head = evidence.witnessed.head
    cosigned = (Cosigned(cosignature=cosign(key, head, now=at), consistency=()) for key in keys)
    return WitnessedHead(head=head, cosigned=tuple(cosigned))


def test_a_head_comes_with_every_front_end(shown: Shown) -> None:
    evidence = shown.evidence()
    plain = policy(shown.platform, manifest_digest=shown.manifest.digest)
    assert judged(shown, evidence, plain) == evidence.witnessed


def test_a_head_of_another_ca_or_mesh(shown: Shown) -> None:
    plain = policy(shown.platform, manifest_digest=shown.manifest.digest)
    evidence = shown.evidence()
    stranger = MeshCa.create(mesh="test", simulated=True, now=NOW)
    of_another = make_papers(stranger, shown.issuing, shown.manifest).witnessed
    renamed = replace(evidence.witnessed, head=replace(evidence.witnessed.head, mesh="other"))
    later = replace(
        evidence.witnessed, head=replace(evidence.witnessed.head, time=int(time.time()) + 5000)
    )
    for witnessed in (of_another, renamed, later):
        with pytest.raises(EvidenceInvalid, match="audit log that is wrong"):
            judged(shown, with_log(evidence, witnessed), plain)


def test_witnesses_that_are_demanded(shown: Shown) -> None:
    evidence = shown.evidence()
    wanted = demanding(shown, WITNESS, OTHER, threshold=2)
    for witnessed in (
        evidence.witnessed,
        signed_by(evidence, WITNESS),
        signed_by(evidence, WITNESS, WITNESS),
        signed_by(evidence, WITNESS, SigningKey.generate()),
        signed_by(evidence, WITNESS, OTHER, at=NOW - 61),
    ):
        with pytest.raises(PolicyDenied) as caught:
            judged(shown, with_log(evidence, witnessed), wanted)
        assert caught.value.rule == "head-witnessed"
    both = signed_by(evidence, WITNESS, OTHER)
    assert judged(shown, with_log(evidence, both), wanted) == both


def test_a_witness_that_saw_another_log(shown: Shown) -> None:
    evidence = shown.evidence()
    other = replace(
        evidence.witnessed.head, audit=replace(evidence.witnessed.head.audit, root="00" * 32)
    )
    seen = Cosigned(cosignature=cosign(WITNESS, other, now=NOW), consistency=())
    forked = WitnessedHead(head=evidence.witnessed.head, cosigned=(seen,))
    with pytest.raises(EvidenceInvalid, match="forked"):
        judged(shown, with_log(evidence, forked), demanding(shown, WITNESS))


FILE = """
[evidence]
simulation_root_sha256 = "{root}"
measurements = ["{measured}"]
[mesh]
manifest_digest = "{digest}"
"""


def test_a_policy_file_names_witnesses(shown: Shown, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    text = FILE.format(
        root=shown.platform.root_sha256.hex(),
        measured=shown.measured.hex(),
        digest=shown.manifest.digest.hex(),
    )
    path.write_text(text)
    assert load_client_policy(path).heads is None
    key = WITNESS.public.hex()
    path.write_text(f'{text}[heads]\nwitnesses = ["{key}"]\nmax_lines = 5\nmax_age_s = 60\n')
    assert load_client_policy(path).heads == HeadDemand(
        witnesses=frozenset({key}), threshold=1, max_lines=5, max_age_s=60
    )
    for wrong in (
        "witnesses = []",
        'witnesses = ["00"]',
        f'witnesses = ["{key}"]\nthreshold = 2',
        f'witnesses = ["{key}"]\nmax_lines = -1',
        f'witnesses = ["{key}"]\nmax_line = 1',
        "threshold = 1",
    ):
        path.write_text(f"{text}[heads]\n{wrong}\n")
        with pytest.raises(ConfigError):
            load_client_policy(path)
