"""Release policy: may this measurement, which was appraised, have this secret?

Appraisal said that evidence is genuine and of code that the manifest lists for the role. This says
what such code gets. The table of roles is closed: a role that is not in it gets nothing.

    frontend    the queue keys of those models that it asks for and that the manifest has, and
                statements of their request keys, never these keys
    zoo         the same as a front end, and no statements of request keys are of use to it
    worker      the queue key and the request key of its one model, and that model's keys where
                the model's owner listed the worker's measurement (TRUST T4, T7, T13)
    all         every named secret whose owner listed the measurement

Whether a line's terms allow it now is `terms`; this knows neither counts nor the time.
"""

from dataclasses import dataclass
from typing import Final, Literal

from wardian.attestation.results.result import AttestationResult
from wardian.broker.mesh.lines import Line, ModelLine, SecretLine
from wardian.broker.mesh.manifest import MeshManifest
from wardian.broker.release.request_keys import OPENERS
from wardian.errors import PolicyDenied


@dataclass(frozen=True, slots=True, kw_only=True)
class _RoleRule:
    most_models: int
    model_keys: bool
    some_models: bool
    """Whether it gets what there is of what it asks for: a front end asks for every model of
    `wardian.toml`, of which the manifest may have fewer."""


ROLE_RULES: Final = {
    "frontend": _RoleRule(most_models=256, model_keys=False, some_models=True),
    "zoo": _RoleRule(most_models=256, model_keys=False, some_models=True),
    "worker": _RoleRule(most_models=1, model_keys=True, some_models=False),
}
"""Who may ask at all. The broker itself is not in it: it asks nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """One secret that may be released.

    Attributes:
        kind: a model's key, its queue key, its request key, or a named secret.
        model: whose key it is; empty for a named secret.
        line: the line that its owner signed; None for a queue key and a request key.
    """

    kind: Literal["model", "queue", "request", "secret"]
    model: str
    line: Line | None


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
    unknown = [model for model in models if not manifest.lines(model)]
    if unknown and not (rule.some_models and len(unknown) < len(models)):
        raise PolicyDenied(f"the mesh manifest has no model {unknown[0]}", rule="model-known")


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
    measurement = result.claims.measurement.hex()
    if measurement not in manifest.roles[role].measurements:
        raise PolicyDenied(
            f"measurement {measurement} is not one that the manifest lists for a {role}",
            rule="role-measurement",
        )
    granted: list[Entitlement] = []
    for model in filter(manifest.lines, models):
        if ROLE_RULES[role].model_keys:
            granted += [
                Entitlement(kind="model", model=model, line=line)
                for line in _model_lines(manifest, model=model, measurement=measurement)
            ]
        granted.append(Entitlement(kind="queue", model=model, line=None))
        if role in OPENERS:
            granted.append(Entitlement(kind="request", model=model, line=None))
    named = (line for line in manifest.secrets if measurement in line.measurements)
    granted += [Entitlement(kind="secret", model="", line=line) for line in named]
    return tuple(granted)


def interop_line(manifest: MeshManifest, *, name: str, result: AttestationResult) -> SecretLine:
    """Return the line of a secret that may be given over another protocol to this measurement.

    Args:
        manifest: a verified one, in force now.
        name: as asked for.
        result: of evidence that binds the other protocol's session. It need not be of a role of
            this mesh: what counts is whom the secret's owner listed.

    Raises:
        PolicyDenied: the rule `interop-secret`: there is no such secret, its owner does not give it
            this way, or not to this measurement. Which of them is not told: it may be a stranger.
    """
    measurement = result.claims.measurement.hex()
    for line in manifest.secrets:
        if line.name == name and line.interop and measurement in line.measurements:
            return line
    raise PolicyDenied(
        f"no owner gives a secret of this name to measurement {measurement} in this way",
        rule="interop-secret",
    )


def _model_lines(manifest: MeshManifest, *, model: str, measurement: str) -> tuple[ModelLine, ...]:
    """Return the versions of `model` whose owner lists `measurement`; at least one."""
    found = tuple(line for line in manifest.lines(model) if measurement in line.measurements)
    if not found:
        raise PolicyDenied(
            f"the owner of model {model} does not give its key to measurement {measurement}",
            rule="owner-policy",
        )
    return found
