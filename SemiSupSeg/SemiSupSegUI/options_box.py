"""The options of Segment that most users leave as they are."""

from __future__ import annotations

import ctk
import qt
from slicer.i18n import tr as _

from SemiSupSegUI.section import node_box
from SemiSupSegUI.segmenting import Options


class OptionsBox:
    """Device, overlap, passes, mask and probabilities, folded away."""

    def __init__(self) -> None:
        box = self.widget = ctk.ctkCollapsibleGroupBox()
        box.title = _("Options")
        box.collapsed = True
        form = qt.QFormLayout(box)
        self.device_box = qt.QComboBox()
        for title, name in ((_("Best available"), "auto"), (_("CPU"), "cpu")):
            self.device_box.addItem(title, name)
        self.device_box.toolTip = _("Where the network runs.")
        self.overlap_box = qt.QDoubleSpinBox()
        self.overlap_box.setRange(0.0, 0.9)
        self.overlap_box.singleStep = 0.1
        self.overlap_box.value = 0.5
        self.overlap_box.toolTip = _(
            "Share of a window that its neighbour sees too. More is smoother and slower."
        )
        self.passes_box = qt.QSpinBox()
        self.passes_box.setRange(1, 64)
        self.passes_box.toolTip = _(
            "1: uncertainty from the network's own estimate. More: from so many passes with "
            "dropout, which takes as many times longer."
        )
        self.probabilities_box = qt.QCheckBox(_("Also keep a probability map per class"))
        self.mask_box = node_box("vtkMRMLScalarVolumeNode", _("None"))
        self.mask_box.showChildNodeTypes = True
        self.mask_box.toolTip = _(
            "A brain mask: an image that is not 0 where intensities count. For images that are not "
            "cut out yet."
        )
        form.addRow(_("Device:"), self.device_box)
        form.addRow(_("Overlap:"), self.overlap_box)
        form.addRow(_("Passes:"), self.passes_box)
        form.addRow(_("Mask:"), self.mask_box)
        form.addRow("", self.probabilities_box)

    def chosen(self) -> Options:
        """Return what is chosen."""
        return Options(
            device=self.device_box.currentData,
            overlap=self.overlap_box.value,
            passes=self.passes_box.value if self.passes_box.value > 1 else None,
            probabilities=self.probabilities_box.checked,
            mask=self.mask_box.currentNode(),
        )
