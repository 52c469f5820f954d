"""Tasks sent elsewhere as soon as what they need is stored; what fails is sent again.

A task is done when its artefact is stored, whatever became of the process that was to make it; so
a process may be killed, lost, or run twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.progress import Advance

ATTEMPTS = 3
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 5.0
"""How long an artefact may take to show here after its process ended: folders over a network."""
TAIL_LINES = 12


class Submission(Protocol):
    """A command that was sent."""

    def over(self) -> bool:
        """Whether it ended, in whatever way."""

    def cancel(self) -> None:
        """Take it out of the queue, or stop it."""


Submit = Callable[[list[str]], Submission]
"""Send a command; a UserError says that the cluster refused it."""


@dataclass
class _Sent:
    """A task that was sent for the ``attempt``-th time."""

    task: AnyTask
    attempt: int
    submission: Submission | None
    over_since: float | None = None

    def failed(self, artefacts: Artefacts) -> bool:
        """Whether its process ended some time ago, and its artefact is still missing."""
        if self.submission is not None and not self.submission.over():
            return False
        self.over_since = self.over_since or time.monotonic()
        return (
            time.monotonic() - self.over_since > PATIENCE_SECONDS
            and self.task.find(artefacts) is None
        )


class Scheduler:
    """Sends tasks, waits for their artefacts, and sends again what failed.

    Args:
        tasks: in an order that works, each with about how many seconds it takes.
        artefacts: where their artefacts are to be.
        send: how one is sent.
        folder: with a log for each task.
    """

    def __init__(
        self,
        tasks: Sequence[tuple[AnyTask, float]],
        artefacts: Artefacts,
        send: Callable[[AnyTask], Submission],
        folder: Path,
    ) -> None:
        self._artefacts = artefacts
        self._send_task = send
        self._folder = folder
        self._waiting = {task.key: task for task, _ in tasks}
        self._seconds = {task.key: seconds for task, seconds in tasks}
        self._needs = {task.key: {need.key for need in task.needs} for task, _ in tasks}
        self._sent: dict[str, _Sent] = {}
        self._failed: dict[str, AnyTask] = {}
        self._accepted = False
        self._advance: Advance

    def run(self) -> None:
        """Return when every artefact is stored.

        Raises:
            UserError: a task failed three times; what does not need it was finished first.
        """
        title, total = _steps(self._waiting), sum(self._seconds.values())
        try:
            with self._artefacts.progress.task(title, total) as advance:
                self._advance = advance
                self._send_ready()
                while self._sent:
                    time.sleep(POLL_SECONDS)
                    self._collect()
                    self._send_ready()
        finally:
            for sent in self._sent.values():
                if sent.submission is not None:
                    sent.submission.cancel()
        if self._failed:
            raise self._error()

    def _send_ready(self) -> None:
        """Send every task that waits for none; an earlier one that is stored frees later ones."""
        for key, task in list(self._waiting.items()):
            if self._needs[key] & (self._waiting.keys() | self._sent.keys() | self._failed.keys()):
                continue
            del self._waiting[key]
            if task.find(self._artefacts) is not None:
                self._finish(key)
            else:
                self._send(task, 1)

    def _send(self, task: AnyTask, attempt: int) -> None:
        try:
            submission = self._send_task(task)
            self._accepted = True
        except UserError as error:
            if not self._accepted:
                raise  # nothing was ever taken, so nothing is lost by stopping
            with self._log(task).open("a", encoding="utf-8") as file:
                file.write(f"{error}\n")
            submission = None
        self._sent[task.key] = _Sent(task, attempt, submission)

    def _collect(self) -> None:
        """See which of the sent tasks ended, and how."""
        for key, sent in list(self._sent.items()):
            if sent.failed(self._artefacts):
                del self._sent[key]
                self._again(sent)
            elif sent.over_since and sent.task.find(self._artefacts) is not None:
                del self._sent[key]
                self._finish(key)

    def _again(self, sent: _Sent) -> None:
        last = sent.attempt == ATTEMPTS
        say = self._artefacts.progress.say
        say(
            f"{sent.task.title}: failed{'' if last else ', sent again'} ({sent.attempt}/{ATTEMPTS})"
        )
        if last:
            self._failed[sent.task.key] = sent.task
            say("\n".join(f"  {line}" for line in self._tail(sent.task)))
        else:
            self._send(sent.task, sent.attempt + 1)

    def _finish(self, key: str) -> None:
        done = len(self._needs) - len(self._waiting) - len(self._sent) - len(self._failed)
        self._advance(self._seconds[key], f"{done} done, {len(self._sent)} sent")

    def _error(self) -> UserError:
        first = next(iter(self._failed.values()))
        waiting = f", and {_steps(self._waiting)} could not begin" if self._waiting else ""
        return UserError(
            f"{_steps(self._failed)} failed {ATTEMPTS} times{waiting}. "
            f"{first.title}: {self._tail(first)[-1]}",
            f"The logs are in {self._folder}; the same command goes on with what is missing.",
        )

    def _log(self, task: AnyTask) -> Path:
        return self._folder / f"{task.key}.log"

    def _tail(self, task: AnyTask) -> list[str]:
        """The last lines that a task printed; at least one."""
        log = self._log(task)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-TAIL_LINES:] or ["it printed nothing, as when it is killed or never begins"]


def _steps(tasks: Mapping[str, AnyTask]) -> str:
    return f"{len(tasks)} step{'' if len(tasks) == 1 else 's'}"
