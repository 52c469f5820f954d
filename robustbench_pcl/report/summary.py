"""The table that answers a reviewer first: what is claimed of each model, and what was left of it.

One row per model: clean, under PGD and under `strongest` at one budget, with the verdict.
"""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from robustbench_pcl.configuration import SCALES, Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.claims import CLAIMED_FOR, claims
from robustbench_pcl.paper.tables import AttackRequest, Cell
from robustbench_pcl.progress import counted
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.report.formatting import (
    MISSING,
    percent,
    show_budget,
    show_interval,
    show_measured,
    show_published,
)
from robustbench_pcl.report.render import escape_markdown
from robustbench_pcl.report.results import RANK, Evidence, Record
from robustbench_pcl.report.schema import csv_rows, json_text
from robustbench_pcl.report.text import WIDTH

STRONGEST = "strongest"
NUMBERS = (CLAIMED_FOR, STRONGEST)
"""What is shown with an interval."""
ROUNDING = 1e-9
"""Of budgets in pixels of [0, 1] that mean the same."""
HEADS = ("Recipe", "Claimed", "Clean", "PGD", "Strongest", "n", "Verdict")
"""Of the table as text, beneath data set, budget and scale."""
CAPTION = (
    "Accuracy in per cent with its 95 % interval: on clean images, under white-box PGD, and under "
    "the attack `strongest` within the same budget. Claimed: what the paper prints for white-box "
    "PGD within that budget. Verdict: whether PGD's number can be believed, not whether the claim "
    "is reached."
)


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One model at one budget; what is not known is None.

    Attributes:
        dataset: name of the data set.
        target: name of the recipe, or of the model from elsewhere.
        scale: of the recipe: paper, quick or demo.
        seed: of its training.
        model: the same for models that classify alike.
        eps: L-infinity budget in pixels of [0, 1].
        claimed: accuracy that the paper prints for white-box PGD within that budget, per cent.
        claimed_table: the number of the paper's table that does.
        clean: accuracy on clean images, per cent.
        clean_low: lower end of its 95 % interval.
        clean_high: upper end of it.
        clean_n: images behind ``clean``.
        pgd: accuracy under white-box PGD, per cent.
        pgd_low: lower end of its 95 % interval.
        pgd_high: upper end of it.
        pgd_n: images behind ``pgd``.
        strongest: accuracy under the attack `strongest`, per cent.
        strongest_low: lower end of its 95 % interval.
        strongest_high: upper end of it.
        strongest_n: images behind ``strongest``.
        n: images under `strongest`, or where that is missing under PGD.
        verdict: code of the diagnosis that speaks of these numbers ("PCL103").
        verdict_name: the same in words ("saturated").
        device: that made the numbers, in words.
        clean_measurement: id of the measurement behind ``clean``.
        pgd_measurement: id of the one behind ``pgd``.
        strongest_measurement: id of the one behind ``strongest``.
        diagnosis: id of the diagnosis.
        of_the_paper: whether the recipe trains with the paper's own loss and the paper claims a
            number for it.
    """

    dataset: str
    target: str
    scale: Scale
    seed: int
    model: str
    eps: float
    claimed: float | None
    claimed_table: int | None
    clean: float | None
    clean_low: float | None
    clean_high: float | None
    clean_n: int | None
    pgd: float | None
    pgd_low: float | None
    pgd_high: float | None
    pgd_n: int | None
    strongest: float | None
    strongest_low: float | None
    strongest_high: float | None
    strongest_n: int | None
    n: int
    verdict: str | None
    verdict_name: str | None
    device: str
    clean_measurement: str | None
    pgd_measurement: str | None
    strongest_measurement: str | None
    diagnosis: str | None
    of_the_paper: bool

    @property
    def measurements(self) -> tuple[str, ...]:
        """The ids of the measurements behind its numbers, as the page has them side by side."""
        ids = (self.pgd_measurement, self.strongest_measurement, self.clean_measurement)
        return tuple(identity for identity in ids if identity is not None)


def summary_rows(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
    *,
    targets: Collection[str] = (),
) -> tuple[SummaryRow, ...]:
    """A row for each model that was attacked white-box within an L-infinity budget.

    The budget is the data set's usual one where the model was attacked with it, else the largest.
    Recipes that carry the paper's claim come first, then others that the paper has a number for.

    Args:
        evidence: all that is stored.
        datasets: only these.
        scale: only models at this scale.
        seed: only models with this seed of training.
        targets: only models of these names; all if there are none.
    """
    models: dict[tuple[str, str, Scale, int, str], list[Record]] = defaultdict(list)
    for (dataset, target, size), records in evidence.records.items():
        if (
            (datasets and dataset not in datasets)
            or scale not in (None, size)
            or (targets and target not in targets)
        ):
            continue
        for record in records:
            if hasattr(record, "accuracy") and seed in (None, record.seed):
                models[dataset, target, size, record.seed, record.model].append(record)
    rows = (_row(evidence, records) for records in models.values())
    return tuple(sorted((row for row in rows if row is not None), key=_place))


def findings(rows: Iterable[SummaryRow]) -> Iterator[str]:
    """Whether the paper's claim holds at each scale, by its own loss' models under `strongest`."""
    own = [row for row in rows if row.of_the_paper and row.strongest is not None]
    for scale in SCALES:
        judged = [row for row in own if row.scale == scale]
        if judged:
            less = sum((row.strongest_high or 0) < (row.claimed or 0) for row in judged)
            claimed, left = (
                percent(show(max(getattr(row, name) for row in judged)))
                for name, show in (("claimed", show_published), ("strongest", show_measured))
            )
            yield (
                f"At {scale} scale, {less} of {counted(len(judged), 'model')} with the paper's "
                "loss keep less than the paper claims, by more than the 95 % interval. It claims "
                f"up to {claimed} under PGD; the attack `strongest` leaves at most {left}."
            )


def _row(evidence: Evidence, records: Sequence[Record]) -> SummaryRow | None:
    """The row of one model; None if no white-box attack on it has an L-infinity budget."""
    first = records[0]
    attacked = [row for row in records if row.white_box and row.norm == "linf" and row.eps > 0]
    eps = _budget(first.dataset, attacked)
    if eps is None:
        return None
    within = [row for row in attacked if abs(row.eps - eps) < ROUNDING]
    pgd = _pgd(evidence, within, eps)
    strongest = min(_named(within, STRONGEST), key=lambda row: row.accuracy, default=None)
    claim = claims().get((first.dataset, first.target, round(eps, 9)))
    if strongest is None and pgd is None and claim is None:
        return None
    shown = strongest or pgd or within[0]
    clean = [row for row in records if row.parameters is None]
    same = [row for row in clean if row.n == shown.n]
    judged = pgd or shown
    diagnosis = evidence.diagnosed.of(
        judged.model, judged.data_digest, {"linf": eps}, judged.parameters, judged.accuracy
    )
    return SummaryRow(
        dataset=first.dataset,
        target=first.target,
        scale=first.scale,
        seed=int(first.seed),
        model=first.model,
        eps=eps,
        claimed=claim and claim.accuracy,
        claimed_table=claim and claim.table,
        **_number("clean", next(reversed(same or clean), None)),
        **_number("pgd", pgd),
        **_number("strongest", strongest),
        n=int(shown.n),
        verdict=diagnosis.code if diagnosis else None,
        verdict_name=diagnosis.verdict if diagnosis else None,
        diagnosis=diagnosis.id if diagnosis else None,
        device=shown.device,
        of_the_paper=claim is not None and _has_papers_loss(first.recipe),
    )


def _budget(dataset: str, attacked: Sequence[Record]) -> float | None:
    """The data set's usual budget where the model was attacked with it, else the largest."""
    judged = [*_named(attacked, CLAIMED_FOR), *_named(attacked, STRONGEST)] or attacked
    budgets = {float(row.eps) for row in judged}
    usual = dataset_spec(dataset).eps if dataset in DATASETS else None
    near = (eps for eps in budgets if usual is not None and abs(eps - usual) < ROUNDING)
    return next(near, max(budgets, default=None))


def _pgd(evidence: Evidence, within: Sequence[Record], eps: float) -> Record | None:
    """The PGD that the tables ask for, else the one that leaves least."""
    found = _named(within, CLAIMED_FOR)
    if not found:
        return None
    first = found[0]
    asked = Cell(
        dataset=first.dataset,
        target=first.target,
        source=first.target,
        attack=AttackRequest(name=CLAIMED_FOR, eps=eps),
    )
    of_tables = {row.id for row in evidence.matching(asked, first.scale, first.seed)}
    usual = [row for row in found if row.id in of_tables]
    if usual:
        return max(usual, key=lambda row: (RANK[row.mode], row.n, row.created))
    return min(found, key=lambda row: row.accuracy)


def _named(records: Iterable[Record], name: str) -> list[Record]:
    """Those of one attack."""
    return [row for row in records if row.parameters["name"] == name]


def _number(name: str, record: Record | None) -> dict[str, Any]:
    """An accuracy with its interval and the id of its measurement, as fields of a row."""
    names = (name, *(f"{name}_{part}" for part in ("low", "high", "n", "measurement")))
    if record is None:
        return dict.fromkeys(names)
    numbers = (float(record.accuracy), float(record.low), float(record.high), int(record.n))
    values = (*numbers, str(record.id))
    return dict(zip(names, values, strict=True))


def _has_papers_loss(recipe: object) -> bool:
    """Whether a recipe trains with the prototype conformity loss."""
    return isinstance(recipe, Recipe) and str(recipe.loss["name"]).startswith("pcl")


def _place(row: SummaryRow) -> tuple[object, ...]:
    """The paper's claim first, then what it compares with, then all others."""
    names = [*DATASETS, row.dataset]
    claimed = next(
        (place for place, key in enumerate(claims()) if key[:2] == (row.dataset, row.target)), 999
    )
    return (
        0 if row.of_the_paper else 1 if row.claimed is not None else 2,
        names.index(row.dataset),
        row.dataset,
        SCALES.index(row.scale),
        claimed,
        row.target,
        row.seed,
        row.device,
        row.model,
    )


def with_seeds(rows: Sequence[SummaryRow]) -> set[tuple[str, str, Scale]]:
    """Data set, recipe and scale of what was trained with several seeds."""
    names = {(row.dataset, row.target, row.scale, row.seed) for row in rows}
    count = Counter(name[:3] for name in names)
    return {name for name, seeds in count.items() if seeds > 1}


def has_devices(rows: Sequence[SummaryRow]) -> bool:
    """Whether the numbers come from several devices."""
    return len({row.device for row in rows}) > 1


def render_summary(rows: Sequence[SummaryRow], form: str) -> str:
    """The table in a format, ending in a newline.

    Args:
        rows: from top to bottom.
        form: text, md, csv or json.

    Raises:
        UserError: it is another format.
    """
    match form:
        case "text":
            return summary_text(rows)
        case "md":
            lines = [[escape_markdown(each) for each in row.values()] for row in shown_rows(rows)]
            heads = list(next(shown_rows(rows), {}))
            return f"{tabulate(lines, heads, tablefmt='pipe', disable_numparse=True)}\n"
        case "csv":
            return csv_rows("summary", list(map(vars, rows)))
        case "json":
            return json_text("summary", list(map(vars, rows)))
    cure = "Choose --format text, md, csv or json; pclbench report --page has it as HTML."
    raise UserError(f"The summary is not written as {form}.", cure)


def shown_rows(rows: Sequence[SummaryRow]) -> Iterator[dict[str, str]]:
    """The rows in words, under the headings of the table."""
    seeds, devices = with_seeds(rows), has_devices(rows)
    for row in rows:
        words = {"Data set": title_of(row.dataset), "Recipe": row.target}
        words |= {"Seed": str(row.seed)} if seeds else {}
        words |= {
            "Scale": row.scale,
            "eps": show_budget(row.eps, None).removeprefix("eps = "),
            "Claimed": show_published(row.claimed),
            "Clean": f"{show_measured(row.clean)}{other_count(row.clean_n, row.n)}",
            "PGD": shown_number(row, "pgd"),
            "Strongest": shown_number(row, "strongest"),
            "n": f"{row.n:,}",
            "Verdict": f"{row.verdict} {row.verdict_name}" if row.verdict else MISSING,
        }
        yield words | ({"Device": row.device} if devices else {})


def shown_number(row: SummaryRow, name: str) -> str:
    """An accuracy with its interval: "23.4 [20.1 to 27.0]"."""
    accuracy, low, high = (getattr(row, name + end) for end in ("", "_low", "_high"))
    if accuracy is None:
        return MISSING
    shown = f"{show_measured(accuracy)} [{show_interval((low, high))}]"
    return f"{shown}{other_count(getattr(row, f'{name}_n'), row.n)}"


def other_count(count: int | None, n: int) -> str:
    """How many images a number is of, if not as many as its row says: " (n = 200)"."""
    return "" if count in (None, n) else f" (n = {count:,})"


def title_of(dataset: str) -> str:
    """What people call a data set."""
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def summary_text(rows: Sequence[SummaryRow]) -> str:
    """The table for a terminal, 80 columns wide; an interval stands beneath its number."""
    if not rows:
        return "No model was attacked yet: pclbench attack ours --dataset digits\n"
    seeds, devices = with_seeds(rows), has_devices(rows)
    parts: dict[str, list[list[str]]] = defaultdict(list)
    for row in rows:
        several = (row.dataset, row.target, row.scale) in seeds
        name = f"{row.target}, seed {row.seed}" if several else row.target
        verdict = f"{row.verdict}\n{textwrap.fill(row.verdict_name or '', 10)}"
        parts[_heading(row, device=devices)].append(
            [
                textwrap.fill(name, 16),
                show_published(row.claimed),
                f"{show_measured(row.clean)}{other_count(row.clean_n, row.n)}".replace(" (", "\n("),
                *(
                    shown_number(row, name)
                    .replace(" [", "\n")
                    .replace("]", "")
                    .replace(" (", "\n(")
                    for name in NUMBERS
                ),
                f"{row.n:,}",
                verdict if row.verdict else MISSING,
            ]
        )
    blocks = [textwrap.fill(CAPTION, WIDTH, break_on_hyphens=False)]
    for heading, lines in parts.items():
        sides = ("left", *("right",) * 5, "left")
        grid = tabulate(lines, HEADS, tablefmt="simple", disable_numparse=True, colalign=sides)
        blocks.append("\n".join(line.rstrip() for line in [heading, *grid.splitlines()]))
    return "\n\n".join(blocks) + "\n"


def _heading(row: SummaryRow, *, device: bool) -> str:
    """What rows of a part of the table as text share."""
    shown = f"{title_of(row.dataset)} ({show_budget(row.eps, None)}), {row.scale} scale"
    return f"{shown}, {row.device}" if device else shown
