"""What a reader of a section's numbers has to know, derived from the evidence."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.paper.tables import PaperTable, Position
from robustbench_pcl.progress import counted
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.report.formatting import grouped, listed, percent, show_budget, span
from robustbench_pcl.report.results import Answers, Evidence, Record
from robustbench_pcl.report.summaries import summary_notes
from robustbench_pcl.report.worst_case import WorstCase
from robustbench_pcl.store.diagnoses import Diagnosis

DIGEST = 8
"""Characters of a digest that a reader is shown."""


def footnotes(
    paper: PaperTable,
    positions: Sequence[Position],
    evidence: Evidence,
    answers: Sequence[Answers],
    *,
    cases: Sequence[WorstCase],
    command: str,
) -> Iterator[str]:
    """All notes on a section, one sentence or two each.

    Args:
        paper: the table as the paper prints it.
        positions: of the section.
        evidence: all that is stored.
        answers: to the positions' cells, for each seed.
        cases: worst cases.
        command: measures the section.
    """
    dataset = positions[0].cell.dataset
    headings = [heading for position in positions for heading in (position.row, position.column)]
    names = {heading.target: heading.label for heading in headings if heading.target}
    asked = [
        (position, record)
        for each in answers
        for position, record in zip(positions, each.records, strict=True)
        if record is not None
    ]
    if dataset not in paper.datasets:
        title = dataset_spec(dataset).title
        yield f"The paper's Table {paper.number} has no numbers for {title}."
    if asked:
        yield from _verdict_notes([record for _, record in asked], cases, evidence, names)
        yield from _recipe_notes([record for _, record in asked], evidence, names)
        yield from _seed_notes(asked, answers, names)
        yield from _measuring_notes(asked, names, cases)
        yield from _attack_notes(positions)
        yield from _not_shown(positions, asked, evidence, answers[0], names)

    def strongest(target: str, eps: float) -> str:
        if target in paper.recipes:
            return f"{command} --with strongest"
        scale = next(r.scale for position, r in asked if position.cell.target == target)
        options = f"--dataset {dataset} --scale {scale} --attack strongest --eps {eps:.12g}"
        return f"pclbench attack {target} {options}"

    yield from summary_notes([each.cell for each in positions], cases, names, strongest)
    yield from _independent_notes(dataset, positions)
    yield from paper.section(dataset).notes


def _verdict_notes(
    records: Sequence[Record],
    cases: Sequence[WorstCase],
    evidence: Evidence,
    names: Mapping[str, str],
) -> Iterator[str]:
    """What the codes beside the numbers say, and what was diagnosed for each."""
    used = {getattr(record, "diagnosis", None) for record in records}
    used |= {case.diagnosis.id for case in cases if case.diagnosis}
    for each in evidence.diagnoses:
        if each.id in used:
            name = names.get(each.target.recipe.name, each.target.recipe.name)
            yield f"{name}: {verdict_note(each)}"


def verdict_note(diagnosis: Diagnosis) -> str:
    """What a code says, of which attack and how many images, and where there is more of it."""
    code, own = diagnosis.code, diagnosis.label
    for each in diagnosis.competence:
        if each.attack == diagnosis.attack:
            own += f" (competence {percent(100 * each.found / each.n)})"
    return (
        f"{code} {diagnosis.verdict}, judged by {own}, n = {diagnosis.n:,}. "
        f"{diagnosis.sentence} More: pclbench explain {code}."
    )


def _recipe_notes(
    records: Sequence[Record], evidence: Evidence, names: Mapping[str, str]
) -> Iterator[str]:
    """Which recipes stand behind the names, what their scale cut, their data, losses, decisions."""
    pairs = [
        f"{label}\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{recipe}"
        for recipe, label in names.items()
        if _letters(label) != _letters(recipe)
    ]
    if pairs:
        yield f"Recipes: {', '.join(pairs)}."
    models = {record.target: record.recipe for record in records}
    own = {name: recipe for name, recipe in models.items() if isinstance(recipe, Recipe)}
    trained = {record.target: (record.recipe, record.model) for record in records}
    trained |= {
        record.source: (record.source_recipe, record.source_model)
        for record in records
        if getattr(record, "source", None) and record.source not in trained
    }
    counts = {
        row.model: dataset_spec(str(row.dataset)).training_count(str(row.provenance))
        for row in evidence.trainings.itertuples(index=False)
        if row.dataset in DATASETS  # a plugin's may be unknown here
    }
    by_scale: dict[Scale, list[tuple[Recipe, int | None]]] = defaultdict(list)
    for recipe, model in trained.values():
        if isinstance(recipe, Recipe):
            by_scale[recipe.scale].append((recipe, counts.get(model)))
    for scale, sized in by_scale.items():
        if len(by_scale) > 1:
            labels = [names.get(recipe.name, recipe.name) for recipe, _ in sized]
            yield f"At {scale} scale: {listed(labels)}."
        yield scale_note(sized)
    for name, model in models.items():
        if name not in own:
            yield f"{names.get(name, name)} was not trained by pclbench: {model.source}."
    for images in dict.fromkeys(record.provenance for record in records):
        yield f"Images from {images}."
    yield from _decision_notes({names.get(name, name): recipe for name, recipe in own.items()})


def _decision_notes(recipes: Mapping[str, Recipe]) -> Iterator[str]:
    """What recipes, by their labels, are trained with and how they decide, where not as usual."""
    losses = []
    rules = []
    for label, recipe in recipes.items():
        loss, parameters = str(recipe.loss["name"]), dict(recipe.loss)
        del parameters["name"]
        if parameters:
            loss += f" ({', '.join(f'{key} = {value}' for key, value in parameters.items())})"
        if loss != "cross-entropy":
            losses.append((loss, label))
        if recipe.inference == "nearest":
            rules.append(("the nearest prototype or class mean, not the largest logit", label))
        if recipe.members > 1:
            rules.append((f"the largest mean probability of {recipe.members} networks", label))
    for loss, users in grouped(losses).items():
        yield f"Loss of {listed(users)}: {loss}."
    for rule, users in grouped(rules).items():
        yield f"Class predicted by {listed(users)}: {rule}."


def _letters(name: str) -> str:
    """A name without references, signs and blanks: "Ours + FGSM" is "ours-fgsm"."""
    return re.sub(r"\[\d+\]|\W", "", name).casefold()


def scale_note(trained: Sequence[tuple[Recipe, int | None]]) -> str:
    """What a scale cut: models, images, epochs and training attacks against those at paper scale.

    Args:
        trained: recipes of one scale and data set, at least one, each with how many training images
            there were for it; None where that is not known.
    """
    pairs = [(recipe, _published(recipe)) for recipe, _ in trained]
    models, cut = {}, {}
    for used, paper in pairs:
        if used.model != paper.model:
            models[used.model] = f"{used.model} in place of {paper.model}"
        elif used.width != paper.width:
            models[used.model] = f"{used.model} at {used.width:g} of its width"
        usual = _training_attacks(paper)
        for name, steps in _training_attacks(used).items():
            if steps != usual.get(name, steps):
                cut[name, steps] = f"{name} with {steps} attack steps (paper: {usual[name]})"
    differences = [*models.values(), *_images(trained)]
    epochs = [(_epochs(used), _epochs(paper)) for used, paper in pairs]
    if any(used != paper for used, paper in epochs):
        own, wanted = (span(side) for side in zip(*epochs, strict=True))
        differences.append(f"{own} epoch{'' if own == '1' else 's'} (paper: {wanted})")
    differences += [listed(cut.values())] * bool(cut)
    scale = trained[0][0].scale.capitalize()
    return f"{scale} scale: {'; '.join(differences) or 'sizes as published'}."


def _images(trained: Sequence[tuple[Recipe, int | None]]) -> Iterator[str]:
    """How many training images were used, where they were not all; arguments as above."""
    published = dataset_spec(trained[0][0].dataset).train_images
    limits = [(recipe.train_images or published, count) for recipe, count in trained]
    fewer = [(each, known) for each, known in limits if min(each, known or each) < published]
    if fewer:
        unknown = any(known is None for _, known in fewer)
        first = all(known is None or limit < known for limit, known in fewer)
        numbers = span(min(limit, known or limit) for limit, known in fewer)
        yield f"{'at most ' * unknown}{'the first ' * first}{numbers} training images"


def _published(recipe: Recipe) -> Recipe:
    """The recipe at paper scale; the recipe itself where it has no name there."""
    if recipe.scale == "paper":
        return recipe
    try:
        return load_recipe(recipe.name, recipe.dataset, "paper", recipe.seed)
    except UserError:
        return recipe


def _epochs(recipe: Recipe) -> int:
    """Of the whole training, what it starts from included."""
    return recipe.schedule.epochs + (_epochs(recipe.start) if recipe.start else 0)


def _training_attacks(recipe: Recipe) -> dict[str, object]:
    """Who attacks the training images (the defence, or what joins each batch), and its steps."""
    steps: dict[str, object] = {str(recipe.defense["name"]): recipe.defense.get("steps")}
    joined = recipe.adversarial_training
    return steps if joined is None else {**steps, joined.attack: joined.steps}


def _seed_notes(
    asked: Sequence[tuple[Position, Record]], answers: Sequence[Answers], names: Mapping[str, str]
) -> Iterator[str]:
    """Which of several seeds are averaged, and where some are missing."""
    if len(answers) > 1:
        seeds = listed(str(seed) for seed in sorted({record.seed for _, record in asked}))
        yield (
            f"Means over trainings with seeds {seeds}, ± standard deviation. Intervals of means "
            "are Student's."
        )
        counts = Counter(position for position, _ in asked)
        fewer = _where([p for p, count in counts.items() if count < len(answers)], names)
        if fewer:
            yield f"From fewer seeds: {fewer}."


def _measuring_notes(
    asked: Sequence[tuple[Position, Record]],
    names: Mapping[str, str],
    cases: Sequence[WorstCase],
) -> Iterator[str]:
    """How attacks differ from the paper's; their precision; images, device, seconds."""
    attacked = [(p, record) for p, record in asked if getattr(record, "parameters", None)]
    steps = set()
    for position, record in attacked:
        paper, name = position.cell.attack_for("paper"), position.cell.attack
        wanted = paper and paper.dump().get("steps")
        if name and wanted != record.parameters.get("steps"):
            steps.add((record.attack.split(",")[0], record.parameters["steps"], wanted))
    for label, own, wanted in sorted(steps):
        yield f"{label} with {own} steps (the paper's Table 2: {wanted})."
    reduced = {record.precision for _, record in attacked} - {"float32"}
    if reduced:
        whole = _where([p for p, r in attacked if r.precision == "float32"], names)
        but = f" (in float32: {whole})" if whole else ""
        parts = sorted({part for each in reduced for part in each.split(" and ")})
        yield (
            f"Attacks computed gradients in {listed(parts)}{but}. The float32 model decided which "
            "images are fooled."
        )
    where = _where([p for p, r in attacked if r.mode == "early-stop"], names)
    if where:
        yield (
            "With early stop, an image leaves the attack at the first step that fools the model. "
            f"So the accuracy is at most the accuracy after all steps. Early stop: {where}."
        )
    measured = [record for _, record in asked if hasattr(record, "low")]
    if measured:
        strongest = [record for case in cases for record in (case, *case.ensembles.values())]
        half = max(record.high - record.low for record in (*measured, *strongest)) / 2
        images = span(record.n for record in (*measured, *strongest))
        yield f"n = {images} images; the widest {percent('95')} interval is ±{half:.1f} points."
    yield f"Measured on {listed(sorted({record.device for _, record in asked}))}."
    threads = {r.threads for p, r in asked if p.cell.quantity == "seconds_per_epoch"}
    if threads:
        yield (
            f"Seconds: the median epoch's, with {span(threads)} "
            f"{'thread' if threads == {1} else 'threads'}; other work on the machine "
            "makes them longer."
        )


def _where(positions: Sequence[Position], names: Mapping[str, str]) -> str:
    """Attacks and the models they are on, models with the same attacks together; "" for none."""
    attacks = grouped((names[position.cell.target], _asking(position)) for position in positions)
    models = grouped((tuple(of), name) for name, of in attacks.items())
    return "; ".join(f"{listed(of)} on {listed(those)}" for of, those in models.items())


def _asking(position: Position) -> str:
    """The heading that names what is asked of a position's target."""
    return (position.column if position.row.target else position.row).name


def _attack_notes(positions: Sequence[Position]) -> Iterator[str]:
    """Which attacks know the defence's own loss, and what the others maximise."""
    attacks = [(_asking(position), position.cell.attack) for position in positions]
    names = {attack.name for _, attack in attacks if attack}
    adaptive = dict.fromkeys(name for name, attack in attacks if attack and attack.loss == "joint")
    if adaptive:
        yield (
            f"Adaptive, maximising the joint loss with its prototypes: {listed(adaptive)}. The "
            "other attacks maximise cross-entropy."
        )
    elif names:
        others = ", C&W the logit margin" if "cw" in names else ""
        yield (
            f"Not adaptive: the table's own attacks maximise cross-entropy{others}, not the joint "
            "loss."
        )


def _not_shown(
    positions: Sequence[Position],
    asked: Sequence[tuple[Position, Record]],
    evidence: Evidence,
    answers: Answers,
    names: Mapping[str, str],
) -> Iterator[str]:
    """What is stored and not in the table: other scales, other checkpoints, other attacks."""
    for scale, count in answers.counts.items():
        if scale != answers.scale:
            yield f"Also measured at {scale} scale: {counted(count, 'cell')} (--scale {scale})."
    attacks = [position.cell.attack_for(answers.scale or "paper") for position in positions]
    wanted = [attack.dump() for attack in attacks if attack]
    kinds = {_kind(dump) for dump in wanted}
    shown: dict[str, dict[str, Record]] = defaultdict(dict)
    for position, record in asked:
        shown[position.cell.target][record.weights] = record
    others = []
    for target, models in shown.items():
        record = next(iter(models.values()))
        stored = evidence.records[record.dataset, target, record.scale]
        weights = {row.weights: row.seed for row in stored if row.weights not in models}
        if weights:
            listing = (
                f"{digest[:DIGEST]}{'' if seed == record.seed else f' (seed {seed})'}"
                for digest, seed in weights.items()
            )
            own = listed(digest[:DIGEST] for digest in models)
            yield (
                f"{len(weights) + len(models)} checkpoints of {names[target]} are stored. The "
                f"numbers belong to the weights {own} only, not to {listed(listing)}."
            )
        others += [
            (row.attack, names[target])
            for row in stored
            if getattr(row, "white_box", False)
            and row.model in {model.model for model in models.values()}
            and row.parameters not in wanted
            and _kind(row.parameters) in kinds
        ]
    if others:
        where = "; ".join(f"{name} on {listed(of)}" for name, of in grouped(others).items())
        yield f"Also stored, but with other parameters than the table asks for: {where}."


def _kind(dump: Mapping[str, object]) -> tuple[object, ...]:
    """An attack's name, budget and loss, without what else decides how strong it is."""
    return tuple(map(dump.get, ("name", "eps", "c", "loss")))


def _independent_notes(dataset: str, positions: Sequence[Position]) -> Iterator[str]:
    """What others measured on the paper's own models, where the section claims otherwise."""
    attacked = {position.cell.target for position in positions if position.cell.attack}
    for result in independent_results():
        if result.dataset == dataset and result.target in attacked:
            clean, claimed, measured = (
                percent(str(value)) for value in (result.clean, result.claimed, result.measured)
            )
            yield (
                f"On the authors' own {result.model} ({show_budget(result.eps, None)}, clean "
                f"{clean}) {result.attack} leaves {measured}; the claim is {claimed} "
                f"({result.reference})."
            )
