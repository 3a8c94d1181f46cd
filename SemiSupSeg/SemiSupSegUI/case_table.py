"""The table of a folder's cases: what each is, what it is used for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from SemiSupSegUI.section import readable

LABELLED, UNLABELLED, VALIDATION = "train_labelled", "train_unlabelled", "validation"
"""Uses of a case, as in a split file; an empty text: it is left out."""
_CASE, _STATE, _USE, _PATIENT, _CHANNELS, _SIZE, _FINDING = range(7)
_WIDTHS = (140, 74, 150, 120, 120, 100, 400)
"""Of the columns: time points of a patient differ in the end of their names."""
_LONG_NAME, _CELL_MARGIN = "BraTS-GLI-00012-001", 8
_ROWS_AT_ONCE = 250
"""So many rows are written at a time: thousands would hold up the window."""
_ROW_PIXELS = 22
_UNUSABLE = "unusable"
_FINDINGS = "findings"


def use_words() -> dict[str, str]:
    """Return what a case is used for, as the panel says it."""
    return {
        LABELLED: _("training, with label"),
        UNLABELLED: _("training, without label"),
        VALIDATION: _("validation"),
        "": _("left out"),
    }


class CaseTable:
    """Thousands of cases in a table that is filled bit by bit.

    Args:
        on_selected: Told when other rows are selected.
    """

    def __init__(self, on_selected: Callable[[], None]) -> None:
        self._rows: dict[str, int] = {}
        self._cases: dict[str, Mapping[str, Any]] = {}
        self._uses: dict[str, str] = {}
        self._use_words = use_words()
        """Looked up once: a translation takes too long for each of thousands of rows."""
        self._on_selected = on_selected
        self._unshown: dict[str, None] = {}
        """Cases whose use is still to be written into their rows, in order."""
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        assert self._timer.connect("timeout()", self._show_uses)
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.search_edit = qt.QLineEdit()
        self.search_edit.placeholderText = _("Search")
        self.search_edit.toolTip = _("List the cases that have this text in any column.")
        self.search_edit.clearButtonEnabled = True
        self.state_box = qt.QComboBox()
        for title, key in (
            (_("All cases"), ""),
            (_("Labelled"), "|labelled|"),
            (_("Unlabelled"), "|unlabelled|"),
            (_("Reviewed"), "|reviewed|"),
            (_("Unusable"), "|unusable|"),
            (_("With findings"), f"|{_FINDINGS}|"),
        ):
            self.state_box.addItem(title, key)
        self.state_box.toolTip = _("List cases of one state, or those with a warning or an error.")
        row = qt.QHBoxLayout()
        row.addWidget(self.search_edit)
        row.addWidget(self.state_box)
        layout.addLayout(row)
        titles = [
            _("Case"),
            _("State"),
            _("Used for"),
            _("Patient"),
            _("Channels"),
            _("Voxels"),
            _("Finding"),
        ]
        self.model = qt.QStandardItemModel()
        self.model.setColumnCount(len(titles))
        self.model.setHorizontalHeaderLabels(titles)
        self._by_state = qt.QSortFilterProxyModel()
        self._by_state.setFilterRole(qt.Qt.UserRole)
        self._by_state.setFilterKeyColumn(_STATE)
        self._by_state.setSourceModel(self.model)
        self._by_text = qt.QSortFilterProxyModel()
        self._by_text.setFilterKeyColumn(-1)
        self._by_text.setFilterCaseSensitivity(qt.Qt.CaseInsensitive)
        self._by_text.setSourceModel(self._by_state)
        for proxy in (self._by_state, self._by_text):
            # Sorted when a title is clicked: a row does not move away while it is looked at.
            proxy.setDynamicSortFilter(False)
        self.view = qt.QTableView()
        self.view.setModel(self._by_text)
        self.view.selectionBehavior = qt.QAbstractItemView.SelectRows
        self.view.selectionMode = qt.QAbstractItemView.ExtendedSelection
        self.view.editTriggers = qt.QAbstractItemView.NoEditTriggers
        # Else the other way round, as a header begins.
        self.view.sortByColumn(_CASE, qt.Qt.AscendingOrder)
        self.view.setSortingEnabled(True)
        self.view.setWordWrap(False)
        self.view.verticalHeader().visible = False
        self.view.verticalHeader().setDefaultSectionSize(_ROW_PIXELS)
        self.view.setMinimumHeight(180)
        for column, width in enumerate(_WIDTHS):
            self.view.setColumnWidth(column, width)
        # Fonts differ: of fixed columns the longest usual name would lose its end.
        name = self.view.fontMetrics().horizontalAdvance(_LONG_NAME) + _CELL_MARGIN
        self.view.setColumnWidth(_CASE, max(_WIDTHS[_CASE], name))
        layout.addWidget(self.view)
        connected = (
            self.search_edit.connect("textChanged(QString)", self._filter_text),
            self.state_box.connect("currentIndexChanged(int)", self._filter_states),
            self.view.selectionModel().connect(
                "selectionChanged(QItemSelection,QItemSelection)", self._selected
            ),
        )
        assert all(connected)

    @property
    def cases(self) -> Mapping[str, Mapping[str, Any]]:
        """The cases by id, as `scan --lines` tells them."""
        return self._cases

    @property
    def num_shown(self) -> int:
        """How many rows the filters leave."""
        return int(self._by_text.rowCount())

    @property
    def selected(self) -> list[str]:
        """The ids of the selected rows."""
        # Not what the cells show: that of a name which cannot be shown is another text.
        ids = list(self._rows)
        indices = self.view.selectionModel().selectedRows(_CASE)
        sources = (self._by_state.mapToSource(self._by_text.mapToSource(one)) for one in indices)
        return [ids[source.row()] for source in sources]

    def clear(self) -> None:
        """Forget all cases."""
        self.close()
        self._rows, self._cases, self._uses = {}, {}, {}
        self.model.setRowCount(0)

    def put(self, case: Mapping[str, Any]) -> None:
        """Add a case, or show what has become known of it since."""
        case_id = str(case["id"])
        row = self._rows.get(case_id)
        if row is None:
            row = self._rows[case_id] = len(self._rows)
            self.model.insertRow(row)
        self._cases[case_id] = case
        self._set(row, _CASE, case_id)
        self._set(row, _STATE, str(case["state"]))
        marks = [str(case["state"]), *([_FINDINGS] if case["reasons"] else [])]
        self._set(row, _STATE, f"|{'|'.join(marks)}|", qt.Qt.UserRole)
        self._set(row, _PATIENT, str(case["patient"]))
        self._set(row, _CHANNELS, " ".join(case["channels"]))
        self._set(row, _SIZE, "" if not case["size"] else "x".join(map(str, case["size"])))
        findings = [_sentence(one) for one in case["reasons"]]
        self._set(row, _FINDING, findings[0] if findings else "")
        self._set(row, _FINDING, "\n".join(findings), qt.Qt.ToolTipRole)
        self._show_use(case_id)

    def finding_of(self, case_id: str) -> str:
        """Return all that is wrong with a case, a line each."""
        return "\n".join(_sentence(one) for one in self._cases[case_id]["reasons"])

    def use_of(self, case_id: str) -> str:
        """Return what a case is used for: LABELLED, UNLABELLED, VALIDATION or an empty text."""
        return self._uses.get(case_id, "")

    def set_uses(self, uses: Mapping[str, str]) -> None:
        """Say what cases are used for."""
        for case_id, use in uses.items():
            if case_id in self._rows and self._uses.get(case_id) != use:
                self._uses[case_id] = use
                self._unshown[case_id] = None
        self._show_uses()

    def close(self) -> None:
        """Write no more rows."""
        self._timer.stop()
        self._unshown = {}

    def split(self) -> dict[str, list[str]]:
        """Return the cases by use, as a split file has them."""
        lists: dict[str, list[str]] = {LABELLED: [], UNLABELLED: [], VALIDATION: []}
        for case_id in self._rows:
            use = self._uses.get(case_id, "")
            if use:
                lists[use].append(case_id)
        return lists

    def of_same_patients(self, case_ids: Iterable[str]) -> list[str]:
        """Return all cases of the patients that these cases belong to."""
        patients = {self._cases[case_id]["patient"] for case_id in case_ids}
        return [one for one, case in self._cases.items() if case["patient"] in patients]

    def possible_use(self, case_id: str, use: str) -> str:
        """Return what a case can be used for instead of `use`: a label decides between two."""
        state = self._cases[case_id]["state"]
        if state == _UNUSABLE:
            return ""
        is_labelled = state in ("labelled", "reviewed")
        if use == VALIDATION and not is_labelled:
            return UNLABELLED
        if use in (LABELLED, UNLABELLED):
            return LABELLED if is_labelled else UNLABELLED
        return use

    def _set(self, row: int, column: int, text: str, role: int | None = None) -> None:
        index = self.model.index(row, column)
        self.model.setData(index, readable(text), qt.Qt.DisplayRole if role is None else role)

    def _show_uses(self) -> None:
        for case_id in list(self._unshown)[:_ROWS_AT_ONCE]:
            del self._unshown[case_id]
            self._show_use(case_id)
        if self._unshown:
            self._timer.start()
        else:
            self._timer.stop()

    def _show_use(self, case_id: str) -> None:
        words = self._use_words[self._uses[case_id]] if case_id in self._uses else ""
        self._set(self._rows[case_id], _USE, words)

    def _filter_states(self, _index: int) -> None:
        self._by_state.setFilterFixedString(self.state_box.currentData)
        self._sort()

    def _filter_text(self, text: str) -> None:
        self._by_text.setFilterFixedString(text)
        self._sort()

    def _sort(self) -> None:
        """Bring the rows into the order that the titles tell: those that come back are anywhere."""
        header = self.view.horizontalHeader()
        self._by_text.sort(header.sortIndicatorSection(), header.sortIndicatorOrder())

    def _selected(self) -> None:
        self._on_selected()


def _sentence(reason: Mapping[str, Any]) -> str:
    """Return what is wrong, with which file, and what to do."""
    file = reason.get("file")
    text = f"{reason['severity']}: {reason['message']}."
    if file and str(file) not in text:
        text += f" ({file})"
    return f"{text} {reason['remedy']}."
