"""What the panel must remember with the scene: one parameter node, behind names and types.

Node references follow their nodes when a scene is saved, restored or imported; everything else is
text. Slicer's own wrapper is not used: inputs vary with the model, and it caches what is written
elsewhere (docs/adr/0009).
"""

from __future__ import annotations

from collections.abc import Mapping

_CHANNEL = "Channel."


class State:
    """Typed access to the module's parameter node.

    Args:
        node: The module's `vtkMRMLScriptedModuleNode`.
    """

    def __init__(self, node) -> None:
        self.node = node

    @property
    def model(self) -> str:
        """Registered name of the chosen model; empty: none."""
        return self._text("Model")

    @model.setter
    def model(self, name: str) -> None:
        self._set("Model", name)

    @property
    def model_sha256(self) -> str:
        """Hash of the chosen model: a name may stand for another one on another machine."""
        return self._text("ModelSha256")

    @model_sha256.setter
    def model_sha256(self, sha256: str) -> None:
        self._set("ModelSha256", sha256)

    @property
    def overlay(self) -> str:
        """Name of the overlay that is shown (overlays.py)."""
        return self._text("Overlay") or "off"

    @overlay.setter
    def overlay(self, name: str) -> None:
        self._set("Overlay", name)

    def number(self, name: str, default: float) -> float:
        """Return an option of the panel."""
        try:
            return float(self._text(name))
        except ValueError:
            return default

    def set_number(self, name: str, value: float) -> None:
        """Remember an option of the panel."""
        self._set(name, repr(float(value)))

    def channel(self, name: str):
        """Return the volume node chosen for a channel, or None."""
        return self.node.GetNodeReference(_CHANNEL + name)

    def set_channel(self, name: str, volume) -> None:
        """Choose a volume node, or None, for a channel."""
        self._refer(_CHANNEL + name, volume)

    def channels(self, names: list[str]) -> Mapping[str, object]:
        """Return the chosen volumes by channel, those that are there."""
        return {name: self.channel(name) for name in names if self.channel(name) is not None}

    @property
    def mask(self):
        """The volume node that tells where intensities count, or None."""
        return self.node.GetNodeReference("Mask")

    @mask.setter
    def mask(self, volume) -> None:
        self._refer("Mask", volume)

    @property
    def output(self):
        """The segmentation node to write to; None: a new one."""
        return self.node.GetNodeReference("Output")

    @output.setter
    def output(self, segmentation) -> None:
        self._refer("Output", segmentation)

    @property
    def result(self):
        """The segmentation node of the result that is shown, or None."""
        return self.node.GetNodeReference("Result")

    @result.setter
    def result(self, segmentation) -> None:
        self._refer("Result", segmentation)

    def _text(self, name: str) -> str:
        return self.node.GetParameter(name) or ""

    def _set(self, name: str, value: str) -> None:
        if self._text(name) != value:
            self.node.SetParameter(name, value)

    def _refer(self, role: str, node) -> None:
        identity = None if node is None else node.GetID()
        if self.node.GetNodeReferenceID(role) != identity:
            self.node.SetNodeReferenceID(role, identity)
