"""The scheduler: nothing before what it needs, failures sent again, nothing waits for ever."""

import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline import runs, scheduler
from robustbench_pcl.pipeline.artefacts import Task
from robustbench_pcl.pipeline.runs import Run, request
from robustbench_pcl.pipeline.scheduler import ATTEMPTS, LOSSES, Scheduler
from robustbench_pcl.progress import Progress


@dataclass(frozen=True)
class Toy(Task[str]):
    name: str
    after: tuple["Toy", ...] = ()

    dataset = "digits"

    def __post_init__(self):
        vars(self).update(key=self.name, title=f"make {self.name}", needs=self.after)

    def find(self, artefacts):
        return self.name if self.name in artefacts.stored else None

    def compute(self, artefacts):
        artefacts.stored.add(self.name)
        return self.name


class Heard(Progress):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


class Submitted:
    """Over after some polls; its task's artefact is stored then, or not."""

    def __init__(self, task, artefacts, polls, works, taken=None):
        self.task, self.artefacts, self.polls, self.works = task, artefacts, polls, works
        self.taken = taken
        self.cancelled, self.identity = False, task.name

    def over(self):
        self.polls -= 1
        if self.polls > 0:
            return False
        if self.works:
            self.task.compute(self.artefacts)
        return True

    def taken_away(self):
        return self.taken

    def cancel(self):
        self.cancelled = True


class Toys:
    """A artefacts and a cluster in one; ``failures`` says how often each task fails."""

    def __init__(self, folder: Path, failures=None, seed=0):
        self.folder, self.failures = folder, dict(failures or {})
        self.random = random.Random(seed)
        self.stored, self.sent, self.submitted = set(), [], []
        self.progress = Heard()

    def send(self, task):
        assert all(need.name in self.stored for need in task.needs), f"{task.name} came too early"
        self.sent.append(task.name)
        self.failures[task.name] = self.failures.get(task.name, 0) - 1
        works = self.failures[task.name] < 0
        if not works:
            with self.running.file(task.key, ".log").open("a") as log:
                log.write(f"trying\n{task.name} is broken\n")
        submitted = Submitted(task, self, self.random.randint(1, 4), works)
        self.submitted.append(submitted)
        return submitted

    def run(self, *tasks, send=None, **how):
        """What became of tasks; a number of tasks at a time, and until when, are ``how``."""
        self.running = Run.begin(self.folder, tasks, "toy", {})
        work = [(task, 1.0) for task in tasks]
        Scheduler(work, self, send or self.send, self.running, **how).run()
        return self.running


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0)
    monkeypatch.setattr(scheduler, "PATIENCE_SECONDS", 0)


def test_each_task_goes_out_once_and_in_order(tmp_path):
    train = Toy("train")
    generate = Toy("generate", (train,))
    measure = Toy("measure", (train, generate))
    toys = Toys(tmp_path)
    toys.run(train, generate, measure)
    assert toys.sent == ["train", "generate", "measure"]
    assert toys.stored == {"train", "generate", "measure"}


def test_what_is_stored_by_now_is_not_sent(tmp_path):
    train = Toy("train")
    toys = Toys(tmp_path)
    toys.stored.add("train")
    toys.run(train, Toy("generate", (train,)))
    assert toys.sent == ["generate"]


def test_two_failures_are_got_over(tmp_path):
    toys = Toys(tmp_path, {"train": 2})
    toys.run(Toy("train"))
    assert toys.sent == ["train"] * 3
    assert toys.progress.lines == [
        "make train: failed, sent again (1/3)",
        "make train: failed, sent again (2/3)",
    ]


def losing(toys, times):
    """A cluster that takes tasks away so often before it lets one finish."""
    left = iter(range(times))

    def send(task):
        lost = next(left, None) is not None
        toys.submitted.append(Submitted(task, toys, 1, not lost, "pre-emption" if lost else None))
        return toys.submitted[-1]

    return send


def test_what_the_cluster_takes_away_is_no_failure(tmp_path):
    toys = Toys(tmp_path)
    run = toys.run(Toy("train"), send=losing(toys, LOSSES))
    assert toys.progress.lines == ["make train: lost (pre-emption), sent again"] * LOSSES
    (task,) = run.record.tasks
    assert (task.state, task.attempt, task.losses) == ("done", 1, LOSSES)
    assert [each.cancelled for each in toys.submitted] == [True] * LOSSES + [False]


def test_what_is_always_taken_away_is_given_up(tmp_path):
    toys = Toys(tmp_path)
    run = toys.run(Toy("train"), send=losing(toys, 99))
    assert len(toys.submitted) == LOSSES + 1
    (task,) = run.record.of("failed")
    assert task.cause == f"it was lost {LOSSES + 1} times, the last time: pre-emption"


def test_a_third_failure_is_reported_when_the_rest_is_done(tmp_path):
    bad, good = Toy("bad"), Toy("good")
    rest = [Toy("after", (good,)), Toy("hopeless", (bad,)), Toy("more", (Toy("hopeless"),))]
    toys = Toys(tmp_path, {"bad": 99})
    failure = toys.run(bad, good, *rest).failure()
    assert toys.stored == {"good", "after"}
    assert toys.sent.count("bad") == ATTEMPTS
    assert failure.cause == (
        "1 task failed 3 times, and 2 tasks could not begin. make bad: bad is broken"
    )
    assert str(tmp_path) in failure.cure
    assert toys.progress.lines[-1].splitlines()[-2:] == ["  trying", "  bad is broken"]


def test_a_task_that_dies_without_a_word(tmp_path):
    toys = Toys(tmp_path)
    run = toys.run(Toy("bad"), send=lambda task: Submitted(task, toys, 1, False))
    assert "printed nothing" in run.failure().cause


def test_an_artefact_that_shows_late_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "PATIENCE_SECONDS", 60)
    late = Toy("late")
    toys = Toys(tmp_path)
    looks = iter(range(100))
    monkeypatch.setattr(Toy, "find", lambda self, artefacts: next(looks) > 5 or None)
    toys.run(late)
    assert toys.sent == ["late"]


def test_a_cluster_that_takes_nothing_is_reported_at_once(tmp_path):
    def refuse(task):
        raise UserError("No such partition.", "Name another.")

    with pytest.raises(UserError, match="No such partition"):
        Toys(tmp_path).run(Toy("a"), Toy("b"), send=refuse)


def test_a_cluster_that_refuses_for_a_while_is_asked_again(tmp_path):
    toys = Toys(tmp_path)
    answers = iter([True, *[False] * (ATTEMPTS + 2), True])

    def moody(task):
        if next(answers):
            return toys.send(task)
        raise UserError("The queue is full.", "Wait.")

    toys.run(Toy("a"), Toy("b"), send=moody)
    assert toys.stored == {"a", "b"}
    assert "The queue is full" in toys.running.file("b", ".log").read_text()


def test_an_interrupt_cancels_what_is_queued(tmp_path, monkeypatch):
    toys = Toys(tmp_path)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(scheduler.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        toys.run(Toy("a"), Toy("b"))
    assert [submitted.cancelled for submitted in toys.submitted] == [True, True]


@pytest.mark.parametrize("seed", range(20))
def test_any_graph_with_any_failures(seed, tmp_path):
    dice = random.Random(seed)
    tasks = []
    for number in range(30):
        after = dice.sample(tasks, min(len(tasks), dice.randint(0, 3)))
        tasks.append(Toy(f"{number}", tuple(after)))
    failures = {task.name: dice.choice([0, 0, 0, 1, 2, 3]) for task in tasks}
    toys = Toys(tmp_path, failures, seed)
    hopeless = set()
    for task in tasks:
        if failures[task.name] >= ATTEMPTS or hopeless & {need.name for need in task.needs}:
            hopeless.add(task.name)
    run = toys.run(*tasks)
    assert bool(run.failure()) == bool(hopeless)
    assert toys.stored == {task.name for task in tasks} - hopeless
    for task in set(toys.sent):
        assert toys.sent.count(task) == min(failures[task], ATTEMPTS - 1) + 1


def test_no_more_tasks_than_workers_at_a_time_and_what_much_waits_for_first(tmp_path):
    short, long = Toy("short"), Toy("long")
    chain = [Toy("next", (long,))]
    chain.append(Toy("last", (chain[0],)))
    toys, most = Toys(tmp_path), []

    def send(task):
        most.append(sum(each.polls > 0 for each in toys.submitted))
        return toys.send(task)

    toys.run(short, Toy("other"), long, *chain, most=2, send=send)
    assert toys.sent[:2] == ["long", "short"]
    assert toys.stored == {"short", "other", "long", "next", "last"}
    assert max(most) <= 1  # others, when one is sent


def test_nothing_is_begun_that_would_end_too_late(tmp_path):
    first = Toy("first")
    toys = Toys(tmp_path)
    run = toys.run(first, Toy("second", (first,)), until=time.monotonic() + 0.5)
    assert toys.sent == []
    assert run.failure() is None
    assert len(run.end().record.of("left")) == 2
    toys.run(first, Toy("second", (first,)), until=time.monotonic() + 60)
    assert toys.sent == ["first", "second"]


@pytest.mark.parametrize(
    ("asked", "stored", "cause"),
    [
        ("*", set(), "4 tasks cancelled."),
        ("b", {"a", "c"}, "1 task cancelled, and 1 task could not begin."),
        ("after b", {"a", "b", "c"}, "1 task cancelled."),
        ("unheard of", {"a", "b", "c", "after b"}, None),
    ],
)
def test_what_is_asked_for_is_cancelled(asked, stored, cause, tmp_path):
    """The request is written when the first task is sent; none is stored by then."""
    toys = Toys(tmp_path)

    def send(task):
        request(toys.running.folder, asked)
        return toys.send(task)

    toys.random = type("Later", (), {"randint": lambda *_: 3})
    b = Toy("b")
    failure = toys.run(Toy("a"), b, Toy("c"), Toy("after b", (b,)), send=send).failure()
    assert toys.stored == stored
    assert (failure and failure.cause) == cause
    assert all(each.cancelled for each in toys.submitted if each.task.name not in stored)


def fan(count):
    """A training that everything waits for, and sets with a measurement each."""
    train = Toy("train")
    sets = [Toy(f"set {number}", (train,)) for number in range(count)]
    return [train, *sets, *(Toy(f"measure {each.name}", (train, each)) for each in sets)]


def test_ten_times_the_tasks_take_ten_times_the_calls(tmp_path, monkeypatch, calls):
    monkeypatch.setattr(runs, "WRITE_SECONDS", 3600)
    few, many = (calls(Toys(tmp_path).run, *fan(count)) for count in (100, 1000))
    assert many < 12 * few
