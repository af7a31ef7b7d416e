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
from wardian.compat.zoo.migration.planned import Plan, PlannedModel
from wardian.errors import ConfigError

_SUFFIX: Final = {"application/onnx": ".onnx", "application/vnd.wardian.openvino-ir": ".ir"}
IR: Final = "application/vnd.wardian.openvino-ir"
_HEAD: Final = "# Written by `wardian migrate` from the files of Cluster Serving.\n"
_SAMPLE_OWNER: Final = "00" * 32


def build_directory(plan: Plan, ready: Sequence[ReadyModel]) -> dict[str, bytes]:
    """Return the files of the directory, by name.

    `wardian.toml` names all models of the plan that are ready or encrypted, `example.toml` those
    that are ready: what is encrypted is sealed by its owner.

    Raises:
        ConfigError: a setting would not be taken: nothing is written then.
    """
    encrypted = [model for model in plan.models if model.found is None]
    agreed = _agreed(plan, ready, encrypted)
    operator = f"{_HEAD}\n[worker]\nreplicas = {plan.replicas}\n"
    with_owner = agreed.replace("owners = []", f'owners = ["{_SAMPLE_OWNER}"]', 1)
    parse(with_owner.encode(), Agreed, name="wardian.toml")
    parse(operator.encode(), Operator, name="operator.toml")
    files = {"wardian.toml": agreed.encode(), "operator.toml": operator.encode()}
    if ready:
        files["example.toml"] = _example(ready).encode()
    files |= {_file(each): each.made.data for each in ready}
    return files


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
            f'\n[models."{model.name}"]   # encrypted: its file is made by `wardian reseal`',
            f'media_type = "{IR}"',
            'engine = "openvino"',
            f"threads = {model.threads}",
        ]
    return "\n".join(lines) + "\n"


def _example(ready: Sequence[ReadyModel]) -> str:
    lines = [_HEAD]
    for each in ready:
        lines += [
            f'[models."{each.planned.name}"]',
            f'file = "{_file(each)}"',
            f"version = {each.planned.version}\n",
        ]
    return "\n".join(lines)


def _file(each: ReadyModel) -> str:
    return each.planned.name + _SUFFIX[each.made.media_type]


def write_directory(out: Path, files: Mapping[str, bytes], *, force: bool) -> list[Path]:
    """Return the paths of `files`, written below `out`, for this user alone.

    Raises:
        ConfigError: one is there already, and not `force`: then none is written; or `out` is no
            directory.
        OSError: it cannot be written.
    """
    demand_free(out, list(files), force=force)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    if "example.toml" not in files:
        (out / "example.toml").unlink(missing_ok=True)  # it would name what is not served any more
    for name, content in files.items():
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
