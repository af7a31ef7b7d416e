"""The `wardian` command: its groups, loaded when asked for, and what errors become.

Exit status: 0 done, 1 failed, 2 wrong use or settings, 3 refused by a policy or by attestation.
"""

import errno
import sys

import click

import wardian
from wardian._internal.wire import printable
from wardian.cli.lazy import LazyGroup
from wardian.errors import AttestationError, ConfigError, PolicyDenied, WardianError

COMMANDS = {
    "up": ("wardian.cli.up.command", "up"),
    "serve": ("wardian.cli.serve", "serve"),
    "status": ("wardian.cli.status", "status"),
    "seal": ("wardian.cli.files", "seal"),
    "open": ("wardian.cli.files", "open_"),
    "reseal": ("wardian.cli.reseal.command", "reseal"),
    "keygen": ("wardian.cli.keygen", "keygen"),
    "owner": ("wardian.cli.owner.group", "owner"),
    "policy": ("wardian.cli.policy.group", "policy"),
    "job": ("wardian.cli.job.group", "job"),
    "mesh": ("wardian.cli.mesh.group", "mesh"),
    "attest": ("wardian.cli.attest", "attest"),
    "audit": ("wardian.cli.audit.group", "audit"),
    "enclave": ("wardian.cli.enclave.group", "enclave"),
    "bench": ("wardian.cli.bench", "bench"),
    "doctor": ("wardian.cli.doctor", "doctor"),
    "broker": ("wardian.cli.processes", "broker"),
    "keeper": ("wardian.cli.keeper.group", "keeper"),
    "aggregator": ("wardian.cli.learning.aggregator", "aggregator"),
    "party": ("wardian.cli.learning.party", "party"),
    "fl": ("wardian.cli.learning.group", "fl"),
    "frontend": ("wardian.cli.processes", "frontend"),
    "worker": ("wardian.cli.processes", "worker"),
    "workers": ("wardian.cli.workers", "workers"),
    "zoo": ("wardian.cli.processes", "zoo"),
    "tenants": ("wardian.cli.tenants.group", "tenants"),
    "redis": ("wardian.cli.redis.command", "redis"),
    "traces": ("wardian.cli.traces.command", "traces"),
    "migrate": ("wardian.cli.migrate", "migrate"),
}


@click.group(
    cls=LazyGroup,
    commands_by_name=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(wardian.__version__, prog_name="wardian")
def cli() -> None:
    """Serve machine-learning models on machines that nobody has to trust.

    Start with `wardian up examples/digits`, which seals a model, starts a key broker, a front end
    and a worker on this machine, and answers over HTTPS. `wardian COMMAND --help` explains each
    command.
    """


def main() -> None:
    """Run the command line and end the process with its status."""
    run(cli)


def run(command: click.Command) -> None:
    """Run `command` with this process's arguments and end the process with its status."""
    status: object = 0
    try:
        status = command.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as err:
        err.show()
        sys.exit(err.exit_code)
    except WardianError as err:
        fail(str(err), exit_status(err))
    except OSError as err:
        fail(explain_os_error(err), 1)
    sys.exit(status if isinstance(status, int) else 0)


def exit_status(err: WardianError) -> int:
    """Return the exit status that `err` ends a process with."""
    if isinstance(err, ConfigError):
        return 2
    if isinstance(err, PolicyDenied | AttestationError):
        return 3
    return 1


def explain_os_error(err: OSError) -> str:
    """Return one line that says what failed and, for the usual causes, what to do."""
    what = f"{err.filename}: " if err.filename else ""
    advice = {
        errno.ENOSPC: "; free some space and run the command again",
        errno.EACCES: "; check the permissions",
        errno.EADDRINUSE: "; choose another port in operator.toml",
    }.get(err.errno or 0, "")
    return f"{what}{err.strerror or err}{advice}"


def fail(message: str, status: int) -> None:
    """End the process with `status` and one line on stderr."""
    told = printable(message)  # part of it may come from a peer
    click.echo(f"{click.style('error:', fg='red', bold=True)} {told}", err=True)
    sys.exit(status)
