"""`wardian redis` with an append-only file, as an operator may have it: it comes back with data.

What `wardian redis` itself runs keeps nothing. Here the settings are its own but for that file, and
a server that finds `forget` in its directory loses the data before it starts.
"""

import shutil
import sys
from pathlib import Path

import wardian.cli.redis.files
from wardian.cli.main import main
from wardian.cli.redis.files import ServerPlace, redis_conf

FORGET = "forget"
_NOTHING = "appendonly no\n"
_KEPT = """\
appendonly yes
appendfsync everysec
auto-aof-rewrite-min-size 16mb
"""


def kept(place: ServerPlace, directory: Path) -> str:
    """Return the settings of `wardian redis`, with an append-only file."""
    usual = redis_conf(place, directory)
    if _NOTHING not in usual:
        raise SystemExit("the settings of `wardian redis` say nothing of an append-only file")
    return usual.replace(_NOTHING, _KEPT)


def lose_data(directory: Path) -> None:
    """Begin with nothing, if that was asked for."""
    if (directory / FORGET).exists():
        for path in (*directory.glob("appendonly*"), *directory.glob("*.rdb")):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        (directory / FORGET).unlink()


if __name__ == "__main__":
    wardian.cli.redis.files.redis_conf = kept  # in this process alone
    lose_data(Path(sys.argv[sys.argv.index("--state") + 1]) / "redis")
    main()
