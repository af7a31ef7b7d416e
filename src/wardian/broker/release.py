"""Release policy: may this measurement, which was appraised, have this secret?

Appraisal said that evidence is genuine and of code that the manifest lists for the role. This says
what such code gets. The table of roles is closed: a role that is not in it gets nothing.

    frontend    the queue keys of all models that it asks for
    worker      the queue key of its one model, and that model's keys where the model's owner
                listed the worker's measurement (TRUST T4, T7)
"""

from dataclasses import dataclass
from typing import Final, Literal

from wardian.attestation.result import AttestationResult
from wardian.broker.manifest import MeshManifest, ModelLine
from wardian.errors import PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class _RoleRule:
    most_models: int
    model_keys: bool


ROLE_RULES: Final = {
    "frontend": _RoleRule(most_models=256, model_keys=False),
    "worker": _RoleRule(most_models=1, model_keys=True),
}
"""Who may ask at all. The broker itself is not in it: it asks nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """One secret that may be released; `line` is the model's, None for a queue key."""

    kind: Literal["model", "queue"]
    model: str
    line: ModelLine | None


def refuse_impossible(manifest: MeshManifest, *, role: str, models: tuple[str, ...]) -> None:
    """Return if somebody of `role` might be entitled to `models`; decided before any quote.

    Raises:
        PolicyDenied: the rule `role-known`, `models-distinct`, `models-count` or `model-known`.
    """
    rule = ROLE_RULES.get(role)
    if rule is None or role not in manifest.roles:
        raise PolicyDenied(
            f"the mesh manifest has no role {role} that may be given secrets", rule="role-known"
        )
    if len(set(models)) != len(models):
        raise PolicyDenied("a model is asked for twice", rule="models-distinct")
    if len(models) > rule.most_models:
        raise PolicyDenied(
            f"a {role} may have the secrets of {rule.most_models} model(s), not of {len(models)}",
            rule="models-count",
        )
    for model in models:
        if not manifest.lines(model):
            raise PolicyDenied(f"the mesh manifest has no model {model}", rule="model-known")


def entitlements(
    manifest: MeshManifest, *, role: str, models: tuple[str, ...], result: AttestationResult
) -> tuple[Entitlement, ...]:
    """Return what the attested workload may have; never an empty tuple.

    Args:
        manifest: a verified one, in force now.
        role: the role that the evidence was appraised for.
        models: as asked for.
        result: of evidence that binds this session, role and models.

    Raises:
        PolicyDenied: additionally to `refuse_impossible`, the rule `role-measurement` (the
            measurement is not the role's) or `owner-policy` (a model's owner does not list it).
    """
    refuse_impossible(manifest, role=role, models=models)
    measurement = result.claims.mr_enclave.hex()
    if measurement not in manifest.roles[role].measurements:
        raise PolicyDenied(
            f"measurement {measurement} is not one that the manifest lists for a {role}",
            rule="role-measurement",
        )
    granted: list[Entitlement] = []
    for model in models:
        if ROLE_RULES[role].model_keys:
            granted += _model_keys(manifest, model=model, measurement=measurement)
        granted.append(Entitlement(kind="queue", model=model, line=None))
    return tuple(granted)


def _model_keys(manifest: MeshManifest, *, model: str, measurement: str) -> list[Entitlement]:
    """Return the versions of `model` whose owner lists `measurement`; at least one."""
    granted = [
        Entitlement(kind="model", model=model, line=line)
        for line in manifest.lines(model)
        if measurement in line.measurements
    ]
    if not granted:
        raise PolicyDenied(
            f"the owner of model {model} does not give its key to measurement {measurement}",
            rule="owner-policy",
        )
    return granted
