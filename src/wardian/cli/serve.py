"""`wardian serve --zoo`: Cluster Serving's files as they are, served."""

from pathlib import Path

import click

from wardian.cli.moving.options import Asked, file_option, moving_options
from wardian.cli.moving.run import ready_to_serve
from wardian.cli.processes import close_to_others
from wardian.cli.state import StateDir
from wardian.cli.up.command import serve_directory


@click.command()
@click.option("--zoo", "config", type=file_option, required=True, help="Its config.yaml.")
@moving_options(dialects=True)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path(".wardian"),
    show_default=True,
    help="Where the mesh keeps its files.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Of the front end; 0: free.")
@click.option("--queue", metavar="QUEUE", help="As of `wardian up`.")
@click.option("--once", is_flag=True, help="Stop once it serves.")
def serve(*, asked: Asked, state: Path, port: int | None, queue: str | None, once: bool) -> None:
    """Serve what Analytics Zoo Cluster Serving served, to its clients as they are.

    Does what `wardian migrate --stream --http` does, once for the same files, and then what
    `wardian up` does, until Ctrl-C. Its Redis has to be there. Says of each key that does not
    simply work what became of it, and what lies in the clear.

    \b
    wardian serve --zoo config.yaml
    wardian serve --zoo config.yaml --servables servables.yaml -- --port 10020
    wardian serve --zoo config.yaml --model-secured --form cbc --bits 128
    """  # noqa: D301 (click reads the character \b, not a backslash)
    close_to_others()
    ready_to_serve(asked, StateDir.open(state))
    serve_directory(
        asked.wanted.out, state=state, port=port, queue=queue, api_key_file=None, once=once
    )
