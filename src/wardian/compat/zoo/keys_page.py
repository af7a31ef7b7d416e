"""The tables of `docs/reference/cluster-serving-keys.md`, made of the tables of the code."""

from wardian.compat.zoo.flags import FLAGS
from wardian.compat.zoo.keys import CONFIG, SERVABLES


def page_tables() -> str:
    """Return the tables in Markdown."""
    rows = ["| key | in 0.9 | fate | |", "|---|---|---|---|"]
    rows += [
        f"| `{key.name}` | {f'`{key.nested}`' if key.nested else ''} | {key.fate} | {key.told} |"
        for key in CONFIG
    ]
    for tag, keys in SERVABLES.items():
        rows += ["", f"`!<{tag}>` in `servables.yaml`:", "", "| key | fate | |", "|---|---|---|"]
        rows += [f"| `{key.name}` | {key.fate} | {key.told} |" for key in keys]
    rows += ["", "Flags of the HTTP front ends, behind `--`:", "", "| flag | fate | |"]
    rows += ["|---|---|---|"]
    rows += [f"| `--{key.name}` | {key.fate} | {key.told} |" for key in FLAGS]
    return "\n".join(rows) + "\n"
