"""The table of review regions: sorted by any column, filtered by class and status."""

from __future__ import annotations

from collections.abc import Callable

import qt
from slicer.i18n import tr as _

from SemiSupSegLib.review.regions import ReviewRegion
from SemiSupSegUI.pointing import place_of
from SemiSupSegUI.reviewing import ReviewSession

_STATUS = 2
"""Column of statuses."""


def status_words() -> dict[str, str]:
    """Return statuses as the panel says them."""
    return {
        "": _("open"),
        "confirmed": _("\u2714 confirmed"),
        "fixed": _("\u270e fixed"),
        "relabelled": _("\u21c4 relabelled"),
        "ignored": _("\u2013 ignored"),
    }


def regions_in_words(number: int) -> str:
    """Return `1 region`, `2 regions`."""
    return _("1 region") if number == 1 else _("{number} regions").format(number=number)


class RegionTable:
    """Lists a session's regions.

    Args:
        on_chosen: Told the id of the region whose row the user has chosen.
        on_filtered: Told when the user lets other regions be listed.
    """

    def __init__(self, on_chosen: Callable[[int], None], on_filtered: Callable[[], None]) -> None:
        self._on_chosen, self._on_filtered = on_chosen, on_filtered
        self._session: ReviewSession | None = None
        self._is_filling = False
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        row = qt.QHBoxLayout()
        self.class_box = qt.QComboBox()
        self.class_box.toolTip = _("List regions of one class only.")
        self.status_box = qt.QComboBox()
        self.status_box.toolTip = _("List regions of one status only.")
        self.status_box.addItem(_("All statuses"), None)
        for status, words in status_words().items():
            self.status_box.addItem(words, status)
        row.addWidget(self.class_box)
        row.addWidget(self.status_box)
        layout.addLayout(row)
        titles = (
            _("No."),
            _("Is it ..."),
            _("Status"),
            _("Wrong mL"),
            _("Doubt"),
            _("Size mL"),
            _("R A S mm"),
            _("Slice"),
            _("Why"),
        )
        self.table = qt.QTableWidget()
        self.table.columnCount = len(titles)
        self.table.setHorizontalHeaderLabels(titles)
        self.table.horizontalHeaderItem(titles.index(_("Slice"))).setToolTip(
            _("Of the place with the most doubt: K in Slicer's Data Probe, counted from 0")
        )
        self.table.verticalHeader().visible = False
        self.table.selectionBehavior = qt.QAbstractItemView.SelectRows
        self.table.selectionMode = qt.QAbstractItemView.SingleSelection
        self.table.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.table.setMinimumHeight(180)
        self.table.toolTip = _(
            "The regions where the result is most likely wrong. Wrong: the volume that is expected "
            "to be wrong in it. Doubt: the probability that a voxel there is wrong."
        )
        self.table.sortingEnabled = True
        layout.addWidget(self.table)
        assert self.table.connect("itemSelectionChanged()", self._selected)
        # A row that is selected already can be chosen, too.
        assert self.table.connect("cellClicked(int,int)", self._clicked)
        assert self.class_box.connect("currentIndexChanged(int)", self._filter_chosen)
        assert self.status_box.connect("currentIndexChanged(int)", self._filter_chosen)

    def show(self, session: ReviewSession | None) -> None:
        """List the regions of a session."""
        self._session = session
        self._is_filling = True
        self.class_box.clear()
        self.class_box.addItem(_("All classes"), None)
        self.status_box.setCurrentIndex(0)
        for name in dict.fromkeys(one.class_name for one in (session.regions if session else ())):
            self.class_box.addItem(name, name)
        self.table.sortingEnabled = False
        self.table.rowCount = len(session.regions) if session else 0
        for row, region in enumerate(session.regions if session else ()):
            for column, (text, value) in enumerate(_cells(session, region)):
                item = qt.QTableWidgetItem()
                # A number is sorted as a number.
                item.setData(qt.Qt.DisplayRole, text if value is None else value)
                item.setData(qt.Qt.UserRole, region.id)
                item.setToolTip(region.reason)
                self.table.setItem(row, column, item)
        self.table.sortingEnabled = True
        self.table.sortByColumn(0, qt.Qt.AscendingOrder)
        self._is_filling = False
        self.update()
        self.table.resizeColumnsToContents()

    def update(self) -> None:
        """Show statuses anew."""
        if self._session is None:
            return
        words = status_words()
        self._is_filling = True
        # A row must not move away while its status is written.
        self.table.sortingEnabled = False
        for row in range(self.table.rowCount):
            status = self._session.status(self._id(row))
            self.table.item(row, _STATUS).setText(words[status])
        self.table.sortingEnabled = True
        self._is_filling = False
        self._filter()

    def select(self, number: int | None) -> None:
        """Mark the row of a region, without telling anybody."""
        self._is_filling = True
        for row in range(self.table.rowCount):
            if self._id(row) == number:
                self.table.setCurrentCell(row, 0)
                self.table.scrollToItem(self.table.item(row, 0))
        self._is_filling = False

    def from_row_of(self, number: int | None, by: int = 1) -> list[int]:
        """Return the regions as they are sorted and filtered, from a row on and round the end.

        Args:
            number: The region whose row comes last; None: that before the first.
            by: 1: downwards; -1: upwards.
        """
        rows = list(range(self.table.rowCount))[:: 1 if by > 0 else -1]
        at = next((place for place, row in enumerate(rows) if self._id(row) == number), -1) + 1
        rows = rows[at:] + rows[:at]
        return [self._id(row) for row in rows if not self.table.isRowHidden(row)]

    def lists(self, number: int) -> bool:
        """Return whether the filters leave a region in the table."""
        return number in self.from_row_of(None)

    def _id(self, row: int) -> int:
        return int(self.table.item(row, 0).data(qt.Qt.UserRole))

    def _selected(self) -> None:
        row = self.table.currentRow()
        if not self._is_filling and row >= 0:
            self._on_chosen(self._id(row))

    def _clicked(self, row: int, _column: int) -> None:
        self._on_chosen(self._id(row))

    def _filter_chosen(self, _index: int) -> None:
        if not self._is_filling:
            self._filter()
            self._on_filtered()

    def _filter(self) -> None:
        if self._is_filling or self._session is None:
            return
        wanted_class, wanted_status = self.class_box.currentData, self.status_box.currentData
        for row in range(self.table.rowCount):
            region = self._session.region(self._id(row))
            is_listed = wanted_class in (None, region.class_name) and wanted_status in (
                None,
                self._session.status(region.id),
            )
            self.table.setRowHidden(row, not is_listed)
        # Qt measures the rows that are listed: of others a status may have grown meanwhile.
        self.table.resizeColumnToContents(_STATUS)


def _classes(region: ReviewRegion) -> str:
    if region.second_class == region.class_name:
        return _("{name}?").format(name=region.class_name)
    return _("{name} or {other}?").format(name=region.class_name, other=region.second_class)


def _cells(session: ReviewSession, region: ReviewRegion) -> list[tuple[str, float | int | None]]:
    """Return each cell's text, or the number that is shown and sorted by."""
    place = place_of(session, region)
    return [
        ("", region.id),
        (_classes(region), None),
        ("", None),
        ("", round(region.expected_error_mm3 / 1000, 2)),
        ("", round(region.mean_doubt, 2)),
        ("", round(region.volume_mm3 / 1000, 2)),
        (" ".join(f"{value:.0f}" for value in place), None),
        ("", region.peak_voxel[0]),
        (region.reason, None),
    ]
