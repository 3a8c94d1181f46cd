"""The section Setup: what the workers' Python has and lacks, and its installation on request.

Nothing is installed, imported or contacted without a click. What is there is found by metadata, in
a process of its own, when the module is first shown.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from SemiSupSegLib.files import read_json
from SemiSupSegLib.models.registry import user_data_folder
from SemiSupSegLib.runs.state import RunStatus
from SemiSupSegLib.workers.diagnosis import diagnostics, findings
from SemiSupSegLib.workers.packages import PackageStatus, Probe, package_states
from SemiSupSegLib.workers.plan import make_plan
from SemiSupSegLib.workers.runner import Job
from SemiSupSegLib.workers.wheels import fill_command
from SemiSupSegUI import desktop, worker
from SemiSupSegUI.jobs import Jobs, clean_up_old, log_tail, new_job_folder
from SemiSupSegUI.message import Message
from SemiSupSegUI.section import Section, enable, push_button

_SIGNS = {"good": "\u2713", "note": "\u2139", "problem": "\u26a0"}


class SetupSection(Section):
    """Packages, devices, and the Python that workers use.

    Args:
        jobs: Looks, tests and installs in processes of their own.
        ask: Puts a question to the user, who says yes or no.
        changed: Told when what workers can do has changed.
    """

    def __init__(self, jobs: Jobs, ask: Callable[[str], bool], changed: Callable[[], None]) -> None:
        super().__init__(_("Setup"))
        self._jobs, self._ask, self._changed = jobs, ask, changed
        self.probe: Probe | None = None
        self.found: dict | None = None
        self._job: Job | None = None
        self._news = ""
        """What an installation has brought, until the self-test after it has ended."""
        self._is_restart_needed = False
        self._build()

    def _build(self) -> None:
        self.summary = qt.QLabel()
        self.summary.wordWrap = True
        self.table = qt.QTableWidget()
        titles = [_("Package"), _("State"), _("For"), _("MB on disk")]
        self.table.columnCount = len(titles)
        self.table.setHorizontalHeaderLabels(titles)
        self.table.verticalHeader().visible = False
        self.table.editTriggers = qt.QAbstractItemView.NoEditTriggers
        self.table.selectionMode = qt.QAbstractItemView.NoSelection
        self.table.setMinimumHeight(150)
        self.findings = qt.QLabel()
        self.findings.wordWrap = True
        self.findings.textInteractionFlags = qt.Qt.TextSelectableByMouse
        self.python_edit = ctk.ctkPathLineEdit()
        self.python_edit.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Executable
        self.python_edit.currentPath = worker.python_setting()
        self.python_edit.toolTip = _(
            "Another Python that has the packages: its program, or its environment's folder. "
            "Empty: Slicer's own. The variable SEMISUPSEG_PYTHON goes before this."
        )
        # Not at each letter that is typed.
        self.python_button = push_button(_("Use"), self.use_python)
        self.wheels_edit = ctk.ctkPathLineEdit()
        self.wheels_edit.filters = ctk.ctkPathLineEdit.Dirs
        self.wheels_edit.toolTip = _(
            "Install from the wheels in this folder, without internet. 'Copy wheel command' gives "
            "the command that fills such a folder on another computer."
        )
        self.install_button = push_button(_("Install..."), self.install)
        self.again_button = push_button(_("Install PyTorch again..."), self.install_torch_again)
        self.test_button = push_button(_("Test"), self.test)
        self.cancel_button = push_button(_("Cancel"), self.cancel)
        self.cancel_button.visible = False
        self.copy_button = push_button(_("Copy diagnostics"), self.copy_diagnostics)
        self.copy_button.toolTip = _("For a bug report; it names no patient and no user.")
        self.wheels_button = push_button(_("Copy wheel command"), self.copy_wheel_command)
        self.folder_button = push_button(_("Show folder"), self._show_folder)
        self.folder_button.toolTip = _("Where models, jobs and results of this user lie.")
        self.clear_button = push_button(_("Clear jobs..."), self.clear)
        self.clear_button.toolTip = _("Delete what is left of finished jobs; results stay.")
        self.message = Message()
        self.layout.addWidget(self.summary)
        self.layout.addWidget(self.table)
        form = qt.QFormLayout()
        row = qt.QHBoxLayout()
        row.addWidget(self.python_edit, 1)
        row.addWidget(self.python_button)
        form.addRow(_("Workers' Python:"), row)
        form.addRow(_("Wheel folder:"), self.wheels_edit)
        self.layout.addLayout(form)
        grid = qt.QGridLayout()
        buttons = (
            self.install_button,
            self.test_button,
            self.cancel_button,
            self.again_button,
            self.copy_button,
            self.wheels_button,
            self.folder_button,
            self.clear_button,
        )
        for at, button in enumerate(buttons):
            grid.addWidget(button, at // 2, at % 2)
        self.layout.addLayout(grid)
        self.layout.addWidget(self.message.widget)
        self.layout.addWidget(self.findings)
        self.update()

    def enter(self) -> None:
        """Look once what there is; later only what was changed here is looked at again."""
        if self.probe is None and self._job is None:
            self.look()
            self._jobs.do(clean_up_old(), lambda error: None)

    @property
    def device(self) -> str:
        """Name of the device that a network would run on, as far as it is known."""
        if self.found is not None:
            works = [one for one in self.found["devices"] if one["ok"]]
            best = works[-1] if works else {"name": "", "title": _("none that works")}
            return _("CPU") if best["name"] == "cpu" else best["title"]
        if self.probe is None:
            return _("looking for devices")
        if self.probe.gpus:
            return _("{gpu}, if PyTorch can use it (not tested yet)").format(
                gpu=self.probe.gpus[0].name
            )
        return _("CPU, no NVIDIA GPU")

    @property
    def hindrance(self) -> str:
        """Why no worker can run, or an empty text."""
        reason = worker.why_no_worker()
        if reason or self.probe is None:
            return reason
        lacking = [state for state in self._states() if state.status is not PackageStatus.PRESENT]
        if lacking:
            return _("Packages are missing ({names}). Press Install under Setup.").format(
                names=", ".join(state.package.name for state in lacking)
            )
        return ""

    def look(self) -> None:
        """Look what the workers' Python has."""
        if worker.why_no_worker():
            self.update()
            return
        with self.message.errors_shown():
            self._job = self._jobs.probe(new_job_folder(), self._looked)
        self.update()

    def test(self) -> None:
        """Let a worker load everything and run a convolution on each device."""
        self._tell(_("Testing ..."))
        with self.message.errors_shown():
            folder = new_job_folder()
            file = folder / "doctor.json"
            self._job = self._jobs.run(
                folder, ["doctor", "--json", str(file)], lambda job: self._tested(job, file)
            )
        self.update()

    def install(self) -> None:
        """Ask, and install what is missing."""
        self._install(replace_torch=False)

    def install_torch_again(self) -> None:
        """Ask, and put another build of PyTorch in the place of the present one."""
        self._install(replace_torch=True)

    def cancel(self) -> None:
        """End the installation or test."""
        if self._job is not None:
            self._jobs.cancel(self._job)

    def copy_diagnostics(self) -> None:
        """Put versions, devices and findings on the clipboard."""
        extra = {
            "Slicer": slicer.app.applicationVersion,
            "system": slicer.app.platform,
            "workers' Python": worker.origin_in_words(),
        }
        slicer.app.clipboard().setText(diagnostics(self.found, probe=self.probe, extra=extra))
        self.message.say(_("The diagnostics are on the clipboard."))

    def copy_wheel_command(self) -> None:
        """Put the command that fills a wheel folder elsewhere on the clipboard."""
        if self.probe is not None:
            slicer.app.clipboard().setText(shlex.join(fill_command(self.probe)))
            self.message.say(
                _(
                    "The command is on the clipboard. Run it on a computer with internet, the same "
                    "system and the same version of Python, and bring its folder here."
                )
            )

    def clear(self) -> None:
        """Delete the folders of jobs, if the user says so."""
        folder = user_data_folder() / "jobs"
        if not self._jobs.is_idle:
            self.message.mind(_("Work is going on. Wait until it has ended."))
        elif self._ask(
            _("Delete what is left of finished jobs in {folder}?").format(folder=folder)
        ):
            shutil.rmtree(folder, ignore_errors=True)
            self.message.say(_("The jobs' folders were deleted. Results and models are as before."))

    def update(self) -> None:
        """Show what is known."""
        reason = self.hindrance
        if self.probe is None and not reason:
            self.summary.text = _("Looking what is installed ...")
        else:
            self.summary.text = reason or _(
                "Everything that is needed is installed. Runs on: {device}."
            ).format(device=self.device)
        states = self._states()
        self.table.rowCount = len(states)
        for row, state in enumerate(states):
            cells = (
                state.package.name,
                f"{state.status.value} {state.version or ''}".strip(),
                state.package.purpose,
                f"{state.package.disk_mb:.0f}",
            )
            for column, text in enumerate(cells):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(str(state))
                self.table.setItem(row, column, item)
        self.table.resizeColumnsToContents()
        sentences = findings(self.found) if self.found else ()
        self.findings.text = "\n".join(f"{_SIGNS[one.level]} {one.text}" for one in sentences)
        self.findings.visible = bool(self.findings.text)
        is_busy = self._job is not None and not self._job.is_ended
        wait = _("Wait until the present work has ended.") if is_busy else ""
        unknown = wait or ("" if self.probe is not None else _("Nothing is known yet."))
        is_complete = self.probe is not None and not reason
        enable(
            self.install_button,
            unknown or (_("Everything that is needed is installed.") if is_complete else ""),
        )
        enable(self.again_button, unknown)
        enable(self.test_button, unknown or reason)
        enable(self.wheels_button, unknown)
        self.cancel_button.visible = is_busy

    def _states(self):
        return package_states(self.probe) if self.probe is not None else []

    def _install(self, *, replace_torch: bool) -> None:
        if self.probe is None:
            return
        if not self._jobs.is_idle:
            self.message.mind(_("Work is going on. Wait until it has ended, or cancel it."))
            return
        plan = make_plan(
            self.probe,
            is_own_python=worker.worker_python().is_own,
            wheels=self.wheels_edit.currentPath or None,
            # Looked for, not imported: it would load torch into the window.
            has_pytorch_extension=importlib.util.find_spec("PyTorchUtils") is not None,
            replace_torch=replace_torch,
        )
        if not plan.is_possible:
            self.message.fail("\n".join(plan.in_words()))
            return
        if not self._ask("\n".join([*plan.in_words(), "", _("Install now?")])):
            self.message.say(_("Nothing was installed."))
            return
        with self.message.errors_shown():
            self._job = self._jobs.install(new_job_folder(), plan, self._installed)
        self.update()

    def _installed(self, job: Job) -> None:
        if not job.is_ended:
            left = f" ({job.state.finished} / {job.state.planned})" if job.state.planned else ""
            self.message.mind((job.state.phase or _("Installing")) + left)
            return
        self._job = None
        if job.state.status is RunStatus.FINISHED:
            changed = read_json(job.folder.result_json).get("changed")
            self._is_restart_needed = bool(changed)
            self._news = (
                _("Installed. Restart Slicer: packages that it had loaded have changed.")
                if changed
                else _("Installed.")
            )
            self.probe = None
            self.look()
            self._tell(_("Looking what is installed ..."))
        elif job.state.status is RunStatus.STOPPED:
            self.message.say(_("Stopped. What was installed so far stays; Install goes on."))
            self.look()
        else:
            reason = job.state.error or _("The installation failed.")
            self.message.fail(reason, log_tail(job.folder))
            self.look()
        self.update()

    def _looked(self, job: Job) -> None:
        if not job.is_ended:
            return
        self._job = None
        if job.state.status is RunStatus.FINISHED:
            self.probe = Probe.from_json(read_json(job.folder.result_json))
            # Whoever has installed something wants to see what came of it.
            self.box.collapsed = not (self.hindrance or self._news)
            if self._news and self.hindrance:
                self._tell(self.hindrance)
                self._news = ""
            elif self._news:
                self.test()
        else:
            self._news = ""
            self.message.fail(
                _("The workers' Python could not be examined: {why}").format(why=job.state.error),
                log_tail(job.folder),
            )
            self.box.collapsed = False
        self.update()
        self._changed()

    def _tested(self, job: Job, file: Path) -> None:
        if not job.is_ended:
            return
        self._job = None
        if file.is_file():
            self.found = read_json(file)
            needs_restart = bool(self._news) and self._is_restart_needed
            self._tell(_("Tested: see below."), is_good=not needs_restart)
        else:
            reason = job.state.error or _("The self-test said nothing.")
            self.message.fail(reason, log_tail(job.folder))
        self._news = ""
        self.update()
        self._changed()

    def _tell(self, text: str, *, is_good: bool = False) -> None:
        tell = self.message.say if is_good else self.message.mind
        tell(" ".join(part for part in (self._news, text) if part))

    def use_python(self) -> None:
        """Let workers use the Python that is named, from now on."""
        path = self.python_edit.currentPath
        if not self._jobs.is_idle:
            self.message.mind(_("Work is going on. Wait until it has ended, or cancel it."))
            return
        worker.choose_worker_python(path)
        self.probe, self.found = None, None
        reason = worker.why_no_worker()
        if reason:
            self.message.fail(reason)
        else:
            self.message.clear()
            self._jobs.replace_runner(worker.new_runner())
            self.look()
        self.update()
        self._changed()

    def _show_folder(self) -> None:
        folder = user_data_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        desktop.show(folder)
