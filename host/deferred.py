"""Load modules that third-party libraries import but seldom use only on first use; in our own programs only."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def defer(*names: str) -> None:
    """Let each module of `names` be loaded by the first use of an attribute instead of by its import.

    Modules that are loaded already stay as they are. Programs call this before they start threads; libraries must not.
    `importlib.util.LazyLoader` does not do: its modules are loaded by the second import statement.
    """
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))


class _Deferred(ModuleType):
    """Stands in for the module of that name until an attribute is used, and forwards to the module afterwards."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
