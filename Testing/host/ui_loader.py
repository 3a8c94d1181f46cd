"""Loads Qt Designer files: checks them against the recorded API and makes their connections."""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools

from Testing.host.adaptations import adapts
from Testing.host.api import api
from Testing.host.complaints import complain
from Testing.host.conversion import to_python, unwrapped
from Testing.host.cpp_classes import cpp_class, stand_ins

LAYOUT_ITEMS = {"Spacer", "Line", "QLayoutWidget"}
"""Designer's own class names."""


@adapts("QUiLoader.load")
def load(_loader: object, device: object, parent: object = None) -> object:
    """Return the widget of a .ui file; what Slicer would not know is a complaint."""
    text = bytes(unwrapped(device).readAll().data())
    root = ElementTree.fromstring(text)
    for widget in root.iter("widget"):
        check_widget(widget)
    connections = root.find("connections")
    wanted = [] if connections is None else list(connections)
    if connections is not None:
        root.remove(connections)
    loader = QtUiTools.QUiLoader()
    for name in stand_ins:
        if api.is_object(name) and issubclass(stand_ins[name], cpp_class("QWidget")):
            loader.registerCustomWidget(stand_ins[name])
    buffer = QtCore.QBuffer()
    buffer.setData(ElementTree.tostring(root))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    made = to_python(loader.load(buffer, unwrapped(parent)))
    if made is None:
        complain("ui", loader.errorString())
        return None
    for connection in wanted:
        make_connection(made, connection)
    return made


def check_widget(widget: ElementTree.Element) -> None:
    """Complain about unknown classes and properties; make enums of stand-ins plain numbers."""
    name = widget.get("class")
    if name in LAYOUT_ITEMS:
        return
    if name not in api.classes:
        complain("ui", f"class {name} is not in the excerpt: see make_excerpt.py")
        return
    for prop in widget.findall("property"):
        member = api.member(name, prop.get("name"))
        if prop.get("stdset") == "0":
            continue  # a dynamic property
        if member is None or member.kind not in ("property", "static"):
            complain("ui", f"{name} ({widget.get('name')}) has no property {prop.get('name')}")
        elif name in stand_ins:
            number_for_enum(name, prop, member.type)


def number_for_enum(class_name: str, prop: ElementTree.Element, type_name: str) -> None:
    """Write "<set>ctkPathLineEdit::Dirs</set>" as a number, which QtCore.Property understands."""
    value = prop[0]
    own = api.member(class_name, prop.get("name")).owner in stand_ins
    if value.tag not in ("set", "enum") or not own:
        return
    recorded = api.enum(type_name, class_name)
    keys = [key.rpartition("::")[2] for key in value.text.split("|")]
    numbers = dict(recorded.values) if recorded else {}
    unknown = [key for key in keys if key not in numbers]
    if unknown:
        complain("ui", f"{class_name}.{prop.get('name')} has no value {unknown}")
        return
    total = 0
    for key in keys:
        total |= numbers[key]
    prop.remove(value)
    ElementTree.SubElement(prop, "number").text = str(total)


def make_connection(root: object, connection: ElementTree.Element) -> None:
    sender, signal, receiver, slot = (
        connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot")
    )
    objects = {root.objectName: root} | {c.objectName: c for c in root.findChildren()}
    missing = [name for name in (sender, receiver) if name not in objects]
    if missing:
        complain("ui", f"connection of {missing}, which the file does not have")
        return
    if not objects[sender].connect(signal, objects[receiver], slot):
        complain("ui", f"connection {sender}.{signal} -> {receiver}.{slot} cannot be made")
