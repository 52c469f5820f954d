"""``python -m benchmarks``: print the table, row by row as they are measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import (
    accelerator,
    attacking,
    command,
    ensembles,
    memory,
    shortest,
    stored,
    training,
    workers,
)
from benchmarks.table import Row, at_least, heading, line
from benchmarks.targets import TITLES, adversarial, standard
from robustbench_pcl.environment import current_environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.progress import TerminalProgress

HOME = Path(__file__).parents[1] / ".bench"
KINDS = {"standard": standard, "adversarially trained": adversarial}
FASTER = {
    ("cifar10", "standard"): (9, 7),
    ("cifar10", "adversarially trained"): (6, 4.5),
    ("fmnist", "standard"): (6, 6),
    ("fmnist", "adversarially trained"): (3, 3),
}
"""How many times as fast as torchattacks PGD-10 ought to be, and without bfloat16."""

Section = Callable[[Workspace, int], Iterable[Row]]
"""(workspace, rounds) -> rows that are measured together."""


def sections(on_accelerator: bool) -> dict[str, Section]:
    """What is measured, by title."""
    found: dict[str, Section] = {
        f"epoch with a loss, {TITLES[dataset]}": partial(training.losses, dataset)
        for dataset in TITLES
    }
    for (dataset, kind), goals in FASTER.items():
        accuracy = attacking.RobustAccuracy(KINDS[kind](dataset), kind, *map(at_least, goals))
        found[accuracy.title] = accuracy
    small = attacking.SmallJob(adversarial("cifar10"), at_least(3.5))
    found[small.title] = small
    for dataset, goal in (("cifar10", 1.6), ("fmnist", 1.0)):
        call = attacking.PlainCall(standard(dataset), at_least(goal), at_least(1))
        found[call.title] = call
    found |= {
        shortest.TITLE: shortest.carlini_wagner,
        training.CLEAN.title: training.CLEAN,
        training.ADVERSARIAL.title: training.ADVERSARIAL,
        stored.TITLE: stored.writing,
        memory.TITLE: memory.peak,
        workers.TITLE: workers.speedup,
        workers.PLAN: workers.planning,
    }
    for dataset, steps in (("fmnist", 10), ("cifar10", 10), ("cifar10", 100)):
        title = f"the whole attack command, PGD-{steps}, adversarially trained {TITLES[dataset]}"
        found[title] = partial(command.overhead, adversarial(dataset), steps, title)
    found |= {case.title: case for case in ensembles.CASES}
    if on_accelerator:
        found["epoch on the accelerator"] = accelerator.epoch
        for kind, make in KINDS.items():
            attacks = partial(accelerator.attacks, make("cifar10"), kind)
            found[f"attacks on the accelerator, {kind}"] = attacks
    return found


def rows(chosen: Mapping[str, Section], workspace: Workspace, rounds: int) -> Iterator[Row]:
    """All sections' rows; one for a section that cannot be measured, which says why."""
    for title, section in chosen.items():
        try:
            yield from section(workspace, rounds)
        except UserError as error:
            yield Row(title, "", f"not measured: {error.cause} {error.cure}")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[""], help="words of the titles to measure")
    parser.add_argument("--home", type=Path, default=HOME, help="where the trained models are kept")
    given = parser.parse_args()
    try:
        workspace = Workspace(given.home, progress=TerminalProgress())
    except UserError as error:  # a folder of another version's
        parser.exit(2, f"{error}\n")
    found = sections(workspace.device.type != "cpu")
    words = [word.lower() for word in given.only]
    chosen = {
        title: found[title] for title in found if any(word in title.lower() for word in words)
    }
    if not chosen:
        parser.error(f"no title has one of these words: {', '.join(words)}; {'; '.join(found)}")
    print(heading(current_environment(workspace.device), given.rounds))
    for row in rows(chosen, workspace, given.rounds):
        print(line(row.cells()), flush=True)


if __name__ == "__main__":
    main()
