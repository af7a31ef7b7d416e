"""`wardian attest collateral`: fetch what the vendor signs about platforms; see when it ends."""

import hashlib
import sys
import time
from pathlib import Path
from typing import Final

import click

from wardian._internal import settings, wire
from wardian._internal.clock import unix_time
from wardian._internal.files import replace_file
from wardian.attestation.certificates.intel_root import INTEL_ROOT_SHA256
from wardian.attestation.collateral.bundle import MAX_COLLATERAL_BYTES
from wardian.attestation.collateral.cache import CollateralCache
from wardian.attestation.collateral.pccs import Update, parse_pccs
from wardian.attestation.collateral.pccs_client import PccsClient
from wardian.attestation.collateral.pccs_source import fetch_into
from wardian.attestation.collateral.platform_model import verify_model
from wardian.attestation.collateral.signed import (
    SignedCollateral,
    expires_soon,
    root_of,
    verify_collateral,
)
from wardian.attestation.collateral.term import Part, Term
from wardian.attestation.evidence import Evidence
from wardian.attestation.quotes.quote import MAX_QUOTE_BYTES, Quote, parse_quote
from wardian.errors import AttestationError, ConfigError, EvidenceInvalid, FormatError

REFUSED: Final = 3
"""The exit status that says: nothing can be verified with this now."""
_DAY: Final = 24 * 3600
_HOUR: Final = 3600

existing = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def collateral() -> None:
    """Fetch what the vendor signs about a platform, and see when it ends.

    Collateral says which platforms are current, which are out of date and which are revoked. A
    quote cannot be verified without it, and it ends: Intel's after 30 days.
    """


@collateral.command()
@click.argument("quote", type=existing)
@click.option("--pccs", "url", required=True, metavar="URL", help="The PCCS, or Intel's service.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it here.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also keep it in this directory, as `[collateral] cache` in operator.toml wants it.",
)
@click.option(
    "--update",
    type=click.Choice(["standard", "early"]),
    default="standard",
    show_default=True,
    help="Which TCB info: weeks to months after a TCB recovery, or at once.",
)
@click.option(
    "--simulation-root-sha256",
    "simulation",
    metavar="HEX",
    help="Of a simulation's root, not Intel.",
)
@click.option("--json", "as_json", is_flag=True)
def fetch(
    *,
    quote: Path,
    url: str,
    out: Path | None,
    cache: Path | None,
    update: Update,
    simulation: str | None,
    as_json: bool,
) -> None:
    """Fetch the collateral for the file QUOTE from a PCCS.

    QUOTE is a quote, or evidence as `wardian attest show --out` writes it. What comes back is
    written after its signatures verified under Intel's root (or the simulation's that is named),
    and only the statements that are newer than those in the file or the cache.

    \b
    wardian attest collateral fetch quote.bin --pccs https://pccs.example:8081 --out collateral.json
    """  # noqa: D301 (click reads the character \b, not a backslash)
    if out is None and cache is None:
        raise ConfigError("say where it is to be kept: --out FILE, --cache DIRECTORY or both")
    client = PccsClient(parse_pccs(url, update=update))
    root = _root(simulation)
    model = verify_model(_read_quote(quote, root), roots=frozenset({root}))
    store = CollateralCache(cache)
    before = None if out is None else _read_kept(out, root)
    if before is not None and before.model == model:
        store.add(before)
    kept, went_back = fetch_into(store, client, model)
    if out is not None:
        replace_file(out, kept.encode())
    if went_back:
        _warn(f"{url} has older statements than are kept here already: {', '.join(went_back)}")
    sys.exit(_report(kept, at=unix_time(), as_json=as_json))


@collateral.command()
@click.argument("file", type=existing)
@click.option(
    "--at", type=click.IntRange(0, 2**33), help="Unix time to look at it from; default: now."
)
@click.option("--json", "as_json", is_flag=True)
def show(*, file: Path, at: int | None, as_json: bool) -> None:
    """Say when each statement in FILE ends, how old it is, and whose it is.

    The signatures are verified under the root that FILE names, and which one that is, is said. Ends
    with 0 if quotes can be verified with it, 3 if they cannot.
    """
    raw = settings.read(file, limit_bytes=MAX_COLLATERAL_BYTES)
    signed = verify_collateral(raw, root_sha256=root_of(raw))
    sys.exit(_report(signed, at=unix_time() if at is None else at, as_json=as_json))


def _root(simulation: str | None) -> bytes:
    if simulation is None:
        return INTEL_ROOT_SHA256
    try:
        root = bytes.fromhex(simulation)
    except ValueError as err:
        raise ConfigError("--simulation-root-sha256: not hex") from err
    if len(root) != hashlib.sha256().digest_size:
        raise ConfigError("--simulation-root-sha256: a SHA-256 has 64 hex digits")
    return root


def _read_quote(path: Path, root: bytes) -> Quote:
    """Return the quote in `path`, raw or inside evidence, which names the root that is wanted."""
    raw = settings.read(path, limit_bytes=MAX_QUOTE_BYTES + 2 * MAX_COLLATERAL_BYTES)
    if raw.startswith(b"{"):
        raw = wire.decode(raw, Evidence, what=str(path)).quote
    quote = parse_quote(raw)
    if quote.root_sha256 != root and root == INTEL_ROOT_SHA256:
        raise EvidenceInvalid(
            f"{path}: the quote is SIMULATED, under a root with SHA-256 {quote.root_sha256.hex()}; "
            "if you know it, name it: --simulation-root-sha256"
        )
    return quote


def _read_kept(path: Path, root: bytes) -> SignedCollateral | None:
    """Return what `path` holds; None if there is no such file, or what it holds is not genuine."""
    if not path.exists():
        return None
    try:
        raw = settings.read(path, limit_bytes=MAX_COLLATERAL_BYTES)
        return verify_collateral(raw, root_sha256=root)
    except (ConfigError, FormatError, AttestationError) as err:
        _warn(f"{path}: what it held is replaced: {err}")
        return None


def _report(signed: SignedCollateral, *, at: int, as_json: bool) -> int:
    """Print `signed` as it is at the Unix time `at`; return the exit status."""
    states = {part: _state(term, at) for part, term in signed.terms.items()}
    usable = not {"ended", "not yet"} & set(states.values())
    soon = usable and expires_soon(signed, at)
    if as_json:
        click.echo(wire.encode(_document(signed, states) | {"at": at, "usable": usable}))
    else:
        _print(signed, states, at)
    if soon:
        _warn("it ends soon: fetch it anew")
    if not usable:
        _warn("quotes cannot be verified with it: fetch it anew, and check this machine's clock")
    return 0 if usable else REFUSED


def _document(signed: SignedCollateral, states: dict[Part, str]) -> dict[str, object]:
    model = signed.model
    return {
        "kind": model.kind.value,
        "fmspc": model.fmspc.hex(),
        "ca": model.ca.value,
        "root_sha256": model.root_sha256.hex(),
        "simulated": model.root_sha256 != INTEL_ROOT_SHA256,
        "statements": {
            part.value: {
                "state": states[part],
                "issued": term.issued,
                "ends": term.ends,
                "evaluation": term.evaluation,
            }
            for part, term in signed.terms.items()
        },
    }


def _print(signed: SignedCollateral, states: dict[Part, str], at: int) -> None:
    if signed.model.root_sha256 == INTEL_ROOT_SHA256:
        click.echo(f"{signed.model}, signed under Intel's root")
    else:
        simulated = click.style("SIMULATED", fg="yellow", bold=True)
        click.echo(f"{signed.model}, {simulated}: signed under another root than Intel's")
        click.echo(f"  root         {signed.model.root_sha256.hex()}")
    for part, term in signed.terms.items():
        click.echo(f"  {part.value:<12} {_line(term, states[part], at)}")


def _state(term: Term, at: int) -> str:
    if term.ends <= at:
        return "ended"
    if term.issued > at:
        return "not yet"
    return "soon" if term.expires_soon(at) else "current"


def _line(term: Term, state: str, at: int) -> str:
    shown = {"current": "", "soon": "  ENDS SOON", "ended": "  ENDED", "not yet": "  NOT YET"}
    evaluation = f"  evaluation {term.evaluation}" if term.evaluation else ""
    return (
        f"issued {_utc(term.issued)} ({_span(at - term.issued, 'old')})  "
        f"ends {_utc(term.ends)} ({_span(term.ends - at, 'left')}){evaluation}"
        f"{click.style(shown[state], fg='yellow')}"
    )


def _utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _span(seconds: int, word: str) -> str:
    """Return a time in days or hours, as a person says it."""
    if abs(seconds) >= 2 * _DAY:
        return f"{seconds // _DAY} days {word}"
    return f"{seconds / _HOUR:.1f} hours {word}"


def _warn(text: str) -> None:
    told = wire.printable(text)
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {told}", err=True)
