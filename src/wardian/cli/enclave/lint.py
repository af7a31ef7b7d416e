"""`wardian enclave lint`: what is wrong with a manifest, and what to write instead."""

import sys
from pathlib import Path

import click

from wardian._internal.wire import encode, printable
from wardian.errors import ConfigError, FormatError
from wardian.tee.manifest import lint as manifest_lint
from wardian.tee.manifest.source import MAX_CHARS, Finding

REFUSED = 3


def _findings(file: Path) -> tuple[Finding, ...]:
    with file.open("rb") as stream:
        raw = stream.read(MAX_CHARS + 1)
    try:
        text = manifest_lint.decode_manifest(raw, name=str(file))
        return manifest_lint.lint(text, name=str(file))
    except FormatError as err:
        raise ConfigError(str(err)) from err  # not a peer's bytes but the file that was asked about


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--json", "as_json", is_flag=True)
def lint(*, file: Path, as_json: bool) -> None:
    """Say what is wrong with the manifest FILE, line by line, and what to write instead.

    FILE is a rendered Gramine manifest, ours or another's, or an old one of Graphene. Ends with 0
    if nothing is refused (warnings may be shown), 3 if something is, 2 if FILE cannot be read.
    """
    found = _findings(file)
    if as_json:
        click.echo(encode(found))
    for each in () if as_json else found:
        key = f"{each.key}: " if each.key else ""
        place = f"{printable(str(file))}:{each.line}"
        click.echo(f"{place} {each.rule}: {key}{each.message}; write {each.instead}")
    refused = sum(each.severity == "refusal" for each in found)
    click.echo(f"{refused} refused, {len(found) - refused} warnings", err=True)
    sys.exit(REFUSED if refused else 0)
