"""Which of its candidates a role really opens: lists that `make trace` wrote, checked at build.

A list holds for one set of package versions, one minor version of Python and one kind of processor.
Where it fits what is installed, a role consists of the listed files. Where none fits, a role
consists of all its candidates: larger than it needs to be, and the builder says so.
"""

import platform
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from wardian._internal import wire
from wardian.tee.manifest.candidates import installed_versions
from wardian.tee.role_table import RoleSpec

FOLDER: Final = "lists"
FORMAT: Final = "wardian file lists v1"


class FileLists(wire.Message, frozen=True, kw_only=True):
    """What was traced on one machine.

    Attributes:
        format: `FORMAT`.
        lock_sha256: of the lock file that was installed, in hex.
        distributions: name to version, of all that any role uses.
        roles: role to the sorted names of files; none of Wardian's own, which the role table names.
    """

    format: str
    lock_sha256: str
    distributions: dict[str, str]
    roles: dict[str, tuple[str, ...]]


def list_name() -> str:
    """Return the name of the list for this interpreter, for example `cpython-311-x86_64.json`."""
    return f"{sys.implementation.cache_tag}-{platform.machine()}.json"


def narrow(
    role: str, spec: RoleSpec, candidates: Mapping[str, Path]
) -> tuple[dict[str, Path], bool]:
    """Return the files that `role` consists of, and whether that is the traced minimum.

    Args:
        role: its name.
        spec: its entry in the role table.
        candidates: what `find_candidates` found.
    """
    lists = load_lists()
    names = set(lists.roles.get(role, ())) if lists else set()
    if lists is None or not names or not _fits(lists, spec):
        return dict(candidates), False
    if any(name not in candidates and not _is_built_in(name) for name in names):
        return dict(candidates), False  # another build of Python: its library is cut differently
    return {
        name: path
        for name, path in candidates.items()
        if name in names or name.startswith(("python/", "app/"))
    }, True


def load_lists() -> FileLists | None:
    """Return the lists that ship for this interpreter, or None if there are none."""
    place = resources.files("wardian.tee.manifest").joinpath(FOLDER, list_name())
    if not place.is_file():
        return None
    return wire.decode(place.read_bytes(), FileLists, what=f"{FOLDER}/{list_name()}")


def _fits(lists: FileLists, spec: RoleSpec) -> bool:
    """Return whether what is installed of the role is what was traced."""
    names = (*spec.distributions, *spec.optional)
    traced = {name: lists.distributions[name] for name in names if name in lists.distributions}
    return lists.format == FORMAT and traced == installed_versions(names)


def _is_built_in(name: str) -> bool:
    """Return whether `name` is an extension module that this interpreter has inside itself."""
    root, _, rest = name.partition("/")
    return root == "dynload" and rest.partition(".")[0] in sys.builtin_module_names
