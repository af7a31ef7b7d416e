"""What commands are given about an app: the file that it is in, and settings for it."""

import contextlib
import importlib.util
import sys
from pathlib import Path

from wardian.errors import ConfigError
from wardian.learning.app import ClientApp
from wardian.learning.vertical.app import ColumnsApp


def load_app(at: str) -> ClientApp:
    """Return the ClientApp at FILE[:NAME]; ConfigError as `load_any_app`, or it is another one."""
    return client_app(load_any_app(at))


def client_app(app: ClientApp | ColumnsApp) -> ClientApp:
    """Return `app` if it is a ClientApp.

    Raises:
        ConfigError: it brings columns: there is no whole model that it could try out or publish.
    """
    if isinstance(app, ColumnsApp):
        raise ConfigError("--app: a ColumnsApp only takes part in a run; a ClientApp is needed")
    return app


def load_any_app(at: str) -> ClientApp | ColumnsApp:
    """Return the app at FILE[:NAME], by default the name `app`.

    Raises:
        ConfigError: there is no such file, or it has no app of that name.
    """
    path, _, name = at.partition(":")
    spec = importlib.util.spec_from_file_location("wardian_party_app", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ConfigError(f"--app {at}: no such Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    found = getattr(module, name or "app", None)
    if not isinstance(found, ClientApp | ColumnsApp):
        raise ConfigError(f"--app {at}: has no ClientApp or ColumnsApp called {name or 'app'!r}")
    return found


def setting(text: str) -> tuple[str, bool | int | float | str]:
    """Return name and value of `text`, KEY=VALUE; a value is a number if it looks like one.

    Raises:
        ConfigError: there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: KEY=VALUE was expected")
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return key, kind(value)
    return key, {"true": True, "false": False}.get(value, value)
