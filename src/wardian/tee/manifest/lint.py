"""The lint of manifests: what is wrong with one, line by line, and what to write instead.

It judges ours before they are signed, and those that a user brings, also from the days when Gramine
was called Graphene. It reads text alone: it opens no file that a manifest names.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from wardian._internal.wire import printable
from wardian.errors import FormatError, PolicyDenied
from wardian.tee.manifest.graphene import (
    OldKey,
    Others,
    explain,
    fill_macros,
    gather,
    parse_graphene,
)
from wardian.tee.manifest.rules import RULES, refused
from wardian.tee.manifest.schema import KEYS, Mismatch, find_key, walk
from wardian.tee.manifest.source import (
    MAX_CHARS,
    Finding,
    Manifest,
    Path,
    dotted,
    parse_manifest,
    survey,
)

_MAX_SHOWN = 1000  # characters of a message: a value may be megabytes long
_NOTHING = "nothing: leave the key out"
_ANSWERED_BY_COMMENT = ("allowed-without-reason", "ioctl-without-reason", "mount-key")
"""The signing tool writes no comments: of a signed manifest nobody can say whether it had these."""


def decode_manifest(raw: bytes, *, name: str) -> str:
    """Return the text of a manifest file.

    Args:
        raw: the whole file, untrusted.
        name: of the file, for the error message.

    Raises:
        FormatError: above 64 MiB, or not UTF-8; names the line.
    """
    if len(raw) > MAX_CHARS:
        raise FormatError(f"{name}:1: more than {MAX_CHARS} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        raise FormatError(f"{name}:{line}: not text in UTF-8") from err


def lint(text: str, *, name: str) -> tuple[Finding, ...]:
    """Return what is wrong with a manifest, in the order of its lines; empty if nothing is.

    Nothing of a finding can move a terminal's cursor, whatever the file holds.

    Args:
        text: a rendered Gramine manifest in TOML, or one of Graphene in its old form; untrusted.
        name: of the file, for error messages.

    Raises:
        ConfigError: a template that has to be rendered first.
        FormatError: neither form, more than 64 MiB, or nested beyond reason. Both name the line.
    """
    name = printable(name)
    survey(text, name=name)
    try:
        manifest = parse_manifest(text, name=name)
    except FormatError:
        old = parse_graphene(text)
        if old is None:
            raise
        found = [*_explain_old(old)]
    else:
        found = [*_outside_schema(manifest)]
        for rule in RULES:
            found += rule(manifest)
    shown = (_shown(finding) for finding in found)
    return tuple(sorted(shown, key=lambda finding: (finding.line, finding.key, finding.rule)))


def demand_clean(text: str, *, name: str) -> None:
    """Raise unless nothing in a manifest is refused.

    Raises:
        ConfigError, FormatError: as `lint`.
        PolicyDenied: something is; tells the first, and how many more there are.
    """
    _refuse(lint(text, name=name), name=name)


def demand_clean_signed(text: str, *, name: str) -> None:
    """Raise unless nothing is refused in a manifest that the signing tool wrote, without comments.

    What a reason in a comment would answer was for the lint before signing to ask.

    Raises:
        ConfigError, FormatError, PolicyDenied: as `demand_clean`.
    """
    found = (each for each in lint(text, name=name) if each.rule not in _ANSWERED_BY_COMMENT)
    _refuse(found, name=name)


def _refuse(findings: Iterable[Finding], *, name: str) -> None:
    refusals = [finding for finding in findings if finding.severity == "refusal"]
    if refusals:
        first = refusals[0]
        more = f" (and {len(refusals) - 1} more: `wardian enclave lint`)" if refusals[1:] else ""
        key = f"{first.key}: " if first.key else ""
        raise PolicyDenied(
            f"{name}:{first.line}: {key}{first.message}; write {first.instead}{more}",
            rule=first.rule,
        )


def _shown(finding: Finding) -> Finding:
    return dataclasses.replace(
        finding,
        key=_cut(finding.key),
        message=_cut(finding.message),
        instead=_cut(finding.instead),
    )


def _cut(text: str) -> str:
    return printable(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")


def _explain_old(old: tuple[OldKey, ...]) -> Iterator[Finding]:
    """Yield one finding for the file, and one for each of its keys."""
    yield Finding(
        line=1,
        key="",
        rule="graphene-manifest",
        severity="refusal",
        message="a manifest of Graphene, in the form of before 2021",
        instead="a TOML manifest for Gramine 1.9 as explained key by key, then lint that",
    )
    others = gather({each.key: each.value for each in old})
    for each in old:
        yield _explain_one(each, others)


def _explain_one(old: OldKey, others: Others) -> Finding:
    moved, known = explain(old.key, old.value, others), find_key(old.key)
    severity: Literal["refusal", "warning"] = "refusal"
    message, instead = "no key of Graphene or of Gramine", _NOTHING
    if moved is not None:
        message, instead = moved.why, moved.today or _NOTHING
    elif old.key.startswith("loader.env.") and not old.value:
        message = "an empty value once removed the host's variable; none is passed in any more"
    elif known is not None:
        why = refused(old.key, known.parse(old.value))
        if why is not None:
            message, instead = why.why, why.instead
        else:
            severity, message = "warning", "the same key today"
            instead = f"{old.key} = {known.spell(fill_macros(old.value))}"
    if "{{ " in instead:
        instead += ", a template: `gramine-manifest -DNAME=VALUE` fills it in"
    return Finding(
        line=old.line,
        key=old.key,
        rule="graphene-key",
        severity=severity,
        message=message,
        instead=instead,
    )


def _outside_schema(found: Manifest) -> Iterator[Finding]:
    """Yield what Gramine 1.9 would not accept: keys removed or unknown, types, what is missing."""
    others = gather({dotted(path): text for path, text in _texts(found.tree, ())})
    for mismatch in walk(found.tree):
        removed = [*_removed(found, mismatch, others)]
        yield from removed or [_mismatch(found, mismatch)]
    entrypoint = found.get("libos", "entrypoint")
    if isinstance(entrypoint, str) and entrypoint.startswith("file:"):
        path: Path = ("libos", "entrypoint")
        yield from _removed(found, Mismatch(path, entrypoint, None), others)


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield every value that is neither a table nor a list, as old files write it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, (*path, index))
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def _removed(found: Manifest, mismatch: Mismatch, others: Others) -> Iterator[Finding]:
    if mismatch.missing:
        return
    for path, text in _texts(mismatch.value, mismatch.path):
        moved = explain(dotted(path), text, others)
        if moved is not None:
            yield found.refusal(path, "removed-key", moved.why, moved.today or _NOTHING)


def _closest(key: str) -> str:
    """Return the key that `key` may be a slip of, of the same table, or an empty text."""
    table, _, _ = key.rpartition(".")
    siblings = [each for each in KEYS if each.rpartition(".")[0] == table]
    close = difflib.get_close_matches(key[:100], siblings, n=1, cutoff=0.85)
    return close[0] if close else ""


def _mismatch(found: Manifest, mismatch: Mismatch) -> Finding:
    key = dotted(mismatch.path)
    if mismatch.missing:
        return found.refusal(
            mismatch.path, "missing-key", "Gramine does not start without it", f"{key} = …"
        )
    if mismatch.expected is None:
        close = _closest(key)
        advice = f"{close}, if that is meant" if close else _NOTHING
        return found.refusal(mismatch.path, "unknown-key", "Gramine 1.9 has no such key", advice)
    old = " (numbers stood for true and false until 2022-02)"
    is_flag = mismatch.expected == "true or false" and mismatch.value in (0, 1)
    return found.refusal(
        mismatch.path,
        "wrong-type",
        f"not {mismatch.expected}{old if is_flag else ''}",
        mismatch.expected,
    )
