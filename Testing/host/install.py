"""Puts `qt`, `ctk` and the Qt side of `slicer` where the module imports them from."""

import importlib.util
import logging
import sys
import tempfile
import types
from pathlib import Path

import slicer
import slicer.util

from Testing.host import node_combo_box, segment_editor, ui_loader
from Testing.host.api import api
from Testing.host.conversion import to_python
from Testing.host.proxy import proxy_class
from Testing.host.scene import MODULE_NAMES

LOADED_FOR_STAND_INS = (node_combo_box, segment_editor, ui_loader)


class RecordedModule(types.ModuleType):
    """`qt` or `ctk`: gives the classes of the excerpt and nothing else."""

    def __getattr__(self, name: str) -> object:
        entry = api.classes.get(name)
        if entry is not None and entry.get("module") == self.__name__:
            return proxy_class(name)
        if self.__name__ == "qt" and name in api.constants:
            return api.constants[name]
        raise AttributeError(
            f"module '{self.__name__}' has no attribute '{name}' in the excerpt of the recorded "
            "API (if the record has it: Testing/host/make_excerpt.py)"
        )


def install_modules() -> None:
    """Make `import qt` and `import ctk` work."""
    for name in ("qt", "ctk"):
        module = RecordedModule(name)
        module.__path__ = []
        sys.modules[name] = module
    for name, entry in api.classes.items():
        if entry.get("module") == "slicer":
            setattr(slicer, name, proxy_class(name))


def install_slicer(app: object, core: object) -> None:
    """Give `slicer` its application, modules and Python-only submodules."""
    slicer.app = app
    slicer.mrmlScene = core.scene
    slicer.selfTests = {}
    slicer.modules = types.SimpleNamespace()
    slicer.moduleNames = types.SimpleNamespace()
    for name, logic in core.logics.items():
        setattr(slicer.modules, name, core_module(name, logic))
    own = Path(__file__).parent
    for name, file in (
        ("i18n", "translation.py"),
        ("ScriptedLoadableModule", "scripted_module.py"),
    ):
        spec = importlib.util.spec_from_file_location(f"slicer.{name}", own / file)
        module = sys.modules[f"slicer.{name}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        setattr(slicer, name, module)


def core_module(name: str, logic: object) -> object:
    from Testing.host.modules import qSlicerLoadableModule

    module = qSlicerLoadableModule()
    module._stored_name = MODULE_NAMES.get(name, name.capitalize())
    module.module_logic = logic
    proxy = to_python(module)
    module._proxy = proxy
    return proxy


def install_util(host: object) -> None:
    """Replace the few functions of slicer.util that need a main window or would wait."""

    def delay_display(message, *_arguments, **_options):
        logging.info(message)
        slicer.app.processEvents()

    def select_module(module):
        host.select_module(module if isinstance(module, str) else module.name)

    def temp_directory(key="__SlicerTemp__", tempDir=None, includeDateTime=True):  # noqa: N803
        return tempfile.mkdtemp(prefix=key, dir=tempDir or slicer.app.temporaryPath)

    slicer.util.delayDisplay = delay_display
    slicer.util.tempDirectory = temp_directory
    slicer.util.selectModule = select_module
    slicer.util.selectedModule = lambda: host.selected_module
