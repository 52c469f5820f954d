"""Tasks sent elsewhere as soon as what they need is stored; what fails is sent again.

A task is done when its artefact is stored, whatever became of the process that was to make it; so
a process may be killed, lost, or run twice.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.runs import EVERYTHING, Run
from robustbench_pcl.progress import Advance, counted

ATTEMPTS = 3
LOSSES = 20
"""So often the cluster may take a task away, or not take it, which does not count as an attempt."""
POLL_SECONDS = 0.5
POLL_SECONDS_HERE = 0.01
"""The same for processes on this machine, which cost nothing to ask."""
PATIENCE_SECONDS = 5.0
"""How long an artefact may take to show here after its process ended: folders over a network."""
TAIL_LINES = 12


class Submission(Protocol):
    """A command that was sent.

    Attributes:
        identity: what the executor calls it: a process, a Slurm job, a Ray task.
    """

    @property
    def identity(self) -> str:
        """What the executor calls it; ``Executor.stop`` takes it."""

    def over(self) -> bool:
        """Whether it ended, in whatever way."""

    def taken_away(self) -> str | None:
        """Why the cluster ended it, in a few words; None if it ended by itself.

        A time limit, pre-emption, a node that failed: the command is not to blame.
        """

    def cancel(self) -> None:
        """Take it out of the queue, or stop it."""


Submit = Callable[[list[str]], Submission]
"""Send a command; a UserError says that the cluster refused it."""


@dataclass
class _Sent:
    """A task that was sent for the ``attempt``-th time, but for its losses.

    ``losses`` says how often the cluster took it away, or did not take it.
    """

    task: AnyTask
    attempt: int
    losses: int
    submission: Submission | None
    over_since: float | None = None


class Scheduler:
    """Sends tasks, waits for their artefacts, and sends again what failed.

    What much else waits for is sent first.

    Args:
        tasks: in an order that works, each with about how many seconds it takes.
        artefacts: where their artefacts are to be.
        send: how one is sent.
        run: keeps what becomes of them, and has a log for each.
        most: how many are sent at a time; no limit if 0.
        here: whether they run on this machine, so that what they store shows at once.
        until: by the monotonic clock; nothing is sent that would take longer.
    """

    def __init__(
        self,
        tasks: Sequence[tuple[AnyTask, float]],
        artefacts: Artefacts,
        send: Callable[[AnyTask], Submission],
        run: Run,
        *,
        most: int = 0,
        here: bool = False,
        until: float = math.inf,
    ) -> None:
        self._artefacts = artefacts
        self._send_task = send
        self._run = run
        self._most = most or len(tasks)
        self._poll, self._patience = POLL_SECONDS, PATIENCE_SECONDS
        if here:
            self._poll, self._patience = min(POLL_SECONDS, POLL_SECONDS_HERE), 0.0
        self._until = until
        self._tasks = {task.key: task for task, _ in tasks}
        self._seconds = {task.key: seconds for task, seconds in tasks}
        self._lacking: dict[str, int] = {}
        self._dependents: dict[str, list[str]] = {key: [] for key in self._tasks}
        for key, task in self._tasks.items():
            needs = {need.key for need in task.needs} & self._tasks.keys()
            self._lacking[key] = len(needs)
            for need in needs:
                self._dependents[need].append(key)
        self._ahead = self._seconds_ahead()
        self._ready: list[tuple[float, int, str]] = []
        self._order = {key: number for number, key in enumerate(self._tasks)}
        self._sent: dict[str, _Sent] = {}
        self._done = 0
        self._cancelled: set[str] = set()
        self._accepted = False
        self._advance: Advance

    def run(self) -> None:
        """Return when every artefact is stored that can be; the run says what failed.

        Raises:
            UserError: no task at all could be sent.
        """
        title, total = counted(len(self._tasks), "task"), sum(self._seconds.values())
        try:
            with self._artefacts.progress.task(title, total) as advance:
                self._advance = advance
                for key, lacking in self._lacking.items():
                    if not lacking:
                        self._push(key)
                self._send_ready()
                while self._sent:
                    time.sleep(self._poll)
                    self._cancel_requested()
                    self._collect()
                    self._send_ready()
                    self._run.write_if_due()
        finally:
            for sent in self._sent.values():
                if sent.submission is not None:
                    sent.submission.cancel()

    def _seconds_ahead(self) -> dict[str, float]:
        """The seconds of each task and of the longest chain of tasks that waits for it."""
        ahead: dict[str, float] = {}
        for key in reversed(self._tasks):  # what waits for a task comes after it
            behind = max((ahead.get(other, 0.0) for other in self._dependents[key]), default=0.0)
            ahead[key] = self._seconds[key] + behind
        return ahead

    def _push(self, key: str) -> None:
        heapq.heappush(self._ready, (-self._ahead[key], self._order[key], key))

    def _send_ready(self) -> None:
        """Send tasks that wait for none, as many as there is room for."""
        while self._ready and len(self._sent) < self._most:
            key = heapq.heappop(self._ready)[2]
            task = self._tasks[key]
            if key in self._cancelled:
                continue
            if task.is_stored(self._artefacts):
                self._finish(key)
            elif time.monotonic() + self._seconds[key] <= self._until:
                self._send(task, 1, 0)

    def _send(self, task: AnyTask, attempt: int, losses: int) -> None:
        try:
            submission = self._send_task(task)
            self._accepted = True
        except UserError as error:
            if not self._accepted:
                raise  # nothing was ever taken, so nothing is lost by stopping
            with self._run.file(task.key, ".log").open("a", encoding="utf-8") as file:
                file.write(f"{error}\n")
            submission = None
        self._sent[task.key] = _Sent(task, attempt, losses, submission)
        identity = submission.identity if submission else ""
        self._run.note(task.key, "sent", attempt=attempt, losses=losses, identity=identity)

    def _collect(self) -> None:
        """See which of the sent tasks ended, and how."""
        now = time.monotonic()
        for key, sent in list(self._sent.items()):
            if sent.submission is not None and not sent.submission.over():
                continue
            sent.over_since = sent.over_since or now
            if sent.task.is_stored(self._artefacts):
                del self._sent[key]
                self._finish(key)
            elif now - sent.over_since >= self._patience:
                del self._sent[key]
                self._again(sent)

    def _cancel_requested(self) -> None:
        """Cancel what ``pclbench jobs cancel`` asked for since."""
        asked = self._run.requests()
        if EVERYTHING in asked:
            asked = {task.key for task in self._run.record.of("waiting", "sent")}
        for key in asked - self._cancelled:
            if key in self._sent:
                submission = self._sent.pop(key).submission
                if submission is not None:
                    submission.cancel()
            if key in self._tasks:  # else the request was not written by us
                self._cancelled.add(key)
                self._run.note(key, "cancelled", cause="cancelled by pclbench jobs cancel")

    def _again(self, sent: _Sent) -> None:
        """Send a task again that ended without its artefact, or give it up."""
        title, say = sent.task.title, self._artefacts.progress.say
        why = sent.submission.taken_away() if sent.submission else "refused by the cluster"
        if why and sent.losses < LOSSES:
            if sent.submission:
                sent.submission.cancel()  # it may wait in the queue
            say(f"{title}: lost ({why}), sent again")
            self._send(sent.task, sent.attempt, sent.losses + 1)
        elif why or sent.attempt == ATTEMPTS:
            say(f"{title}: failed ({sent.attempt}/{ATTEMPTS})")
            tail = self._tail(sent.task)
            cause = f"it was lost {LOSSES + 1} times, the last time: {why}"
            self._run.note(sent.task.key, "failed", cause=cause if why else tail[-1])
            say("\n".join(f"  {line}" for line in tail))
        else:
            say(f"{title}: failed, sent again ({sent.attempt}/{ATTEMPTS})")
            self._send(sent.task, sent.attempt + 1, sent.losses)

    def _finish(self, key: str) -> None:
        self._run.note(key, "done")
        for other in self._dependents[key]:
            self._lacking[other] -= 1
            if not self._lacking[other]:
                self._push(other)
        self._done += 1
        self._advance(self._seconds[key], f"{self._done} done, {len(self._sent)} sent")

    def _tail(self, task: AnyTask) -> list[str]:
        """The last lines that a task printed; at least one."""
        log = self._run.file(task.key, ".log")
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-TAIL_LINES:] or ["it printed nothing, as when it is killed or never begins"]
