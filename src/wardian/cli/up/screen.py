"""What `wardian up` shows: one line a step, colour where the terminal has it."""

import click


class Screen:
    """Prints steps to stdout; a step that a person should not miss stands out."""

    def title(self, text: str) -> None:
        """Print the first line."""
        click.secho(text, bold=True)
        click.echo()

    def step(self, who: str, what: str, detail: str = "") -> None:
        """Print that `who` did `what`."""
        subject = click.style(f"{who:<9}", fg="cyan")
        verb = click.style(f"{what:<12}", fg="green")
        click.echo(f"  {subject} {verb} {detail}")

    def attested(self, who: str, measurement: str, *, simulated: bool) -> None:
        """Print that `who` was attested, and under which kind of root."""
        kind = click.style("SIMULATED", fg="yellow", bold=True) if simulated else "SGX hardware"
        self.step(who, "attested", f"{kind}  mr_enclave {measurement[:16]}…")

    def warn(self, text: str) -> None:
        """Print a line that a person should read."""
        click.echo(f"  {click.style('note', fg='yellow'):<9}      {text}")

    def lines(self, *texts: str) -> None:
        """Print `texts`, one a line."""
        for text in texts:
            click.echo(text)
