"""A group of commands whose modules are imported when they are used, so that clients stay light."""

import importlib
from collections.abc import Mapping
from typing import Any

import click
from typing_extensions import override


class LazyGroup(click.Group):
    """Knows its commands by name, module and attribute."""

    def __init__(
        self, *arguments: Any, commands_by_name: Mapping[str, tuple[str, str]], **options: Any
    ) -> None:
        """Make a group; `commands_by_name` gives the module and attribute of each command."""
        super().__init__(*arguments, **options)
        self._by_name = commands_by_name

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._by_name)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._by_name:
            return None
        module, attribute = self._by_name[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is not a command")
        return command
