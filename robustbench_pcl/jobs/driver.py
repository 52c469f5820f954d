"""Jobs sent elsewhere as soon as what they need is stored; what fails is sent again.

A job is done when its artefact is stored, whatever became of the process that was to make it; so
a process may be killed, lost, or run twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.plan import Job
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
    """A job that was sent for the ``attempt``-th time."""

    job: Job
    attempt: int
    submission: Submission | None
    over_since: float | None = None

    def failed(self, bench: Bench) -> bool:
        """Whether its process ended some time ago, and its artefact is still missing."""
        if self.submission is not None and not self.submission.over():
            return False
        self.over_since = self.over_since or time.monotonic()
        return time.monotonic() - self.over_since > PATIENCE_SECONDS and not self.job.done(bench)


class Driver:
    """Sends jobs, waits for their artefacts, and sends again what failed.

    Args:
        jobs: in an order that works, each with about how many seconds it takes.
        bench: where their artefacts are to be.
        send: how one is sent.
        folder: with a log for each job.
    """

    def __init__(
        self,
        jobs: Sequence[tuple[Job, float]],
        bench: Bench,
        send: Callable[[Job], Submission],
        folder: Path,
    ) -> None:
        self._bench = bench
        self._send_job = send
        self._folder = folder
        self._waiting = {job.key: job for job, _ in jobs}
        self._seconds = {job.key: seconds for job, seconds in jobs}
        self._needs = {job.key: {need.key for need in job.needs} for job, _ in jobs}
        self._sent: dict[str, _Sent] = {}
        self._failed: dict[str, Job] = {}
        self._accepted = False
        self._advance: Advance

    def run(self) -> None:
        """Return when every artefact is stored.

        Raises:
            UserError: a job failed three times; what does not need it was finished first.
        """
        title, total = _steps(self._waiting), sum(self._seconds.values())
        try:
            with self._bench.progress.task(title, total) as advance:
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
        """Send every job that waits for none; an earlier one that is stored frees later ones."""
        for key, job in list(self._waiting.items()):
            if self._needs[key] & (self._waiting.keys() | self._sent.keys() | self._failed.keys()):
                continue
            del self._waiting[key]
            if job.done(self._bench):
                self._finish(key)
            else:
                self._send(job, 1)

    def _send(self, job: Job, attempt: int) -> None:
        try:
            submission = self._send_job(job)
            self._accepted = True
        except UserError as error:
            if not self._accepted:
                raise  # nothing was ever taken, so nothing is lost by stopping
            with self._log(job).open("a", encoding="utf-8") as file:
                file.write(f"{error}\n")
            submission = None
        self._sent[job.key] = _Sent(job, attempt, submission)

    def _collect(self) -> None:
        """See which of the sent jobs ended, and how."""
        for key, sent in list(self._sent.items()):
            if sent.failed(self._bench):
                del self._sent[key]
                self._again(sent)
            elif sent.over_since and sent.job.done(self._bench):
                del self._sent[key]
                self._finish(key)

    def _again(self, sent: _Sent) -> None:
        last = sent.attempt == ATTEMPTS
        say = self._bench.progress.say
        say(f"{sent.job.title}: failed{'' if last else ', sent again'} ({sent.attempt}/{ATTEMPTS})")
        if last:
            self._failed[sent.job.key] = sent.job
            say("\n".join(f"  {line}" for line in self._tail(sent.job)))
        else:
            self._send(sent.job, sent.attempt + 1)

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

    def _log(self, job: Job) -> Path:
        return self._folder / f"{job.key}.log"

    def _tail(self, job: Job) -> list[str]:
        """The last lines that a job printed; at least one."""
        log = self._log(job)
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-TAIL_LINES:] or ["it printed nothing, as when it is killed or never begins"]


def _steps(jobs: Mapping[str, Job]) -> str:
    return f"{len(jobs)} step{'' if len(jobs) == 1 else 's'}"
