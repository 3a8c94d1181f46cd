"""Modules named slicer, qt, ctk and vtk in which every name is a class that does nothing.

Enough to import what needs Slicer, where only importing is looked at. Running this file does it.
"""

import importlib.abc
import importlib.machinery
import sys
import types

NAMES = {"slicer", "qt", "ctk", "vtk"}


class Air(type):
    """The type of the classes: they have each attribute, and decorate by giving back."""

    def __getattr__(cls, name):
        return air(name)

    def __call__(cls, *args, **keywords):
        if "is_air" not in vars(cls):
            return super().__call__(*args, **keywords)
        if len(args) == 1 and isinstance(args[0], type | types.FunctionType):
            return args[0]
        return air(cls.__name__)


def air(name):
    """Make a class, each a new one, so that two of them can be the bases of a third."""
    if name.startswith("__"):
        raise AttributeError(name)

    def take_anything(self, *args, **keywords):
        pass

    def get_anything(self, name):
        return air(name)

    return Air(name, (), {"is_air": 1, "__init__": take_anything, "__getattr__": get_anything})


class AirModule(types.ModuleType):
    """Has each name; for `import *`, those of slicer.ScriptedLoadableModule."""

    __path__ = ()
    __all__ = tuple(f"ScriptedLoadableModule{part}" for part in ("", "Widget", "Logic", "Test"))

    def __getattr__(self, name):
        return air(name)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of air, and all modules below them."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in NAMES:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return AirModule(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
