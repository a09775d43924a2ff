"""Modules that other people's libraries import and seldom use, loaded by their first use, in programs of ours alone."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def defer(*names: str) -> None:
    """Let each module of `names` be loaded by the first use of what it holds instead of by its import.

    What is loaded already stays as it is. A program calls this before it starts threads, a library never.
    `importlib.util.LazyLoader` does not serve: its modules are loaded by the second import statement.
    """
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))


class _Deferred(ModuleType):
    """Stands for the module of its name until something that it holds is used, and leads to it afterwards."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
