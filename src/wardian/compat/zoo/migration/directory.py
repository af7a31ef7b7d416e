"""The directory that `wardian up` takes, written from what was migrated."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from wardian._internal.agreed import Agreed
from wardian._internal.files import replace_file
from wardian._internal.operator import Operator
from wardian._internal.settings import parse
from wardian.compat.zoo.migration.converting import ReadyModel
from wardian.compat.zoo.migration.dialects import Dialects
from wardian.compat.zoo.migration.planned import Plan, PlannedModel
from wardian.compat.zoo.migration.record import NAME as RECORD
from wardian.errors import ConfigError

_SUFFIX: Final = {"application/onnx": ".onnx", "application/vnd.wardian.openvino-ir": ".ir"}
IR: Final = "application/vnd.wardian.openvino-ir"
SEALED_SUFFIX: Final = ".sealed"
KEY_SUFFIX: Final = ".key"
OF_THE_WHOLE: Final = frozenset({"example.toml", RECORD})
"""Files that are not there where a model is missing."""
_HEAD: Final = "# Written by `wardian migrate` from the files of Cluster Serving.\n"
_SAMPLE_OWNER: Final = "00" * 32


def build_directory(
    plan: Plan, ready: Sequence[ReadyModel], sealed: Sequence[PlannedModel], dialects: Dialects
) -> dict[str, bytes]:
    """Return the files of the directory, by name.

    `wardian.toml` names all models of the plan that are ready or encrypted, `example.toml` those
    that are ready or sealed: any other that is encrypted is sealed by its owner.

    Raises:
        ConfigError: a setting would not be taken: nothing is written then.
    """
    encrypted = [model for model in plan.models if model.found is None]
    agreed = _agreed(plan, ready, encrypted)
    named = {*(each.planned.name for each in ready), *(model.name for model in encrypted)}
    tables = dialects if plan.job in named else None
    if tables is not None and tables.agreed:
        agreed += f"\n{tables.agreed}\n"
    operator = f"{_HEAD}\n[worker]\nreplicas = {plan.replicas}\n"
    operator += f"{tables.operator}\n" if tables is not None and tables.operator else ""
    with_owner = agreed.replace("owners = []", f'owners = ["{_SAMPLE_OWNER}"]', 1)
    parse(with_owner.encode(), Agreed, name="wardian.toml")
    parse(operator.encode(), Operator, name="operator.toml")
    files = {"wardian.toml": agreed.encode(), "operator.toml": operator.encode()}
    if ready or sealed:
        files["example.toml"] = _example(ready, sealed).encode()
    files |= {_file(each): each.made.data for each in ready}
    return files if tables is None else files | tables.files


def _agreed(plan: Plan, ready: Sequence[ReadyModel], encrypted: Sequence[PlannedModel]) -> str:
    lines = [f'{_HEAD}\n[mesh]\nname = "{plan.mesh}"\nowners = []']
    for each in ready:
        lines += [
            f'\n[models."{each.planned.name}"]',
            f'media_type = "{each.made.media_type}"',
            f'engine = "{each.made.engine}"',
            f"threads = {each.planned.threads}",
        ]
        if each.top is not None:
            output = json.dumps(each.top.output, ensure_ascii=False)  # a basic string of TOML, too
            lines.append(f'post = [{{ step = "top", output = {output}, n = {each.top.n} }}]')
    for model in encrypted:
        lines += [
            f'\n[models."{model.name}"]   # encrypted there: its file comes of a reseal',
            f'media_type = "{IR}"',
            'engine = "openvino"',
            f"threads = {model.threads}",
        ]
    return "\n".join(lines) + "\n"


def _example(ready: Sequence[ReadyModel], sealed: Sequence[PlannedModel]) -> str:
    lines = [_HEAD]
    for each in ready:
        lines += [
            f'[models."{each.planned.name}"]',
            f'file = "{_file(each)}"',
            f"version = {each.planned.version}\n",
        ]
    for model in sealed:
        lines += [
            f'[models."{model.name}"]',
            f'file = "{model.name}{SEALED_SUFFIX}"',
            f'key_file = "{model.name}{KEY_SUFFIX}"',
            f"version = {model.version}\n",
        ]
    return "\n".join(lines)


def _file(each: ReadyModel) -> str:
    return each.planned.name + _SUFFIX[each.made.media_type]


def make_directory(out: Path) -> None:
    """Return once `out` is a directory; a new one is for this user alone."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_directory(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Return the paths of `files`, written below `out`, for this user alone.

    What is there is overwritten: see `demand_free`.

    Raises:
        OSError: it cannot be written.
    """
    make_directory(out)
    for name in OF_THE_WHOLE - files.keys():
        (out / name).unlink(missing_ok=True)  # it would tell of what is not there any more
    for name, content in files.items():
        (out / name).parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(out / name, content)
    return [out / name for name in files]


def demand_free(out: Path, names: Sequence[str], *, force: bool) -> None:
    """Return if nothing below `out` would be overwritten that is not to be.

    Raises:
        ConfigError: something would; names it.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a directory")
    there = [name for name in names if (out / name).exists() or (out / name).is_symlink()]
    if there and not force:
        raise ConfigError(
            f"--out {out}: {', '.join(there)} there already; name another directory, or --force"
        )
    for name in there:
        if (out / name).is_dir():
            raise ConfigError(f"{out / name}: is a directory")
