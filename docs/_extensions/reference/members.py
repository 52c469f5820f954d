"""Pages of attacks, losses and defences: docstring, equations, every parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reference import restructured as rst
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.attacks.losses import CARRIED, ON_LOGITS, AttackLoss
from robustbench_pcl.configuration import SCALES, Configuration, Scale
from robustbench_pcl.data.datasets import DATASETS, DatasetSpec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.recipes.load import load_attack
from robustbench_pcl.recipes.presets import SIZES
from robustbench_pcl.registry import resolve

NORMS = {"linf": "L-infinity", "l2": "L2", "l0": "L0"}
Settings = Mapping[str, Any]


def pages() -> dict[str, str]:
    """A page for each member of the three families, and one that lists each family."""
    return {**_attacks(), **_losses(), **_defenses()}


def value(given: object) -> str:
    """A parameter's value as it is typed."""
    if given is None:
        return "none"
    if isinstance(given, float):
        return f"{given:.6g}"
    if isinstance(given, list | tuple):
        return ", ".join(map(value, given))
    return str(given).lower() if isinstance(given, bool) else str(given)


def _attacks() -> dict[str, str]:
    found = {f"attacks/{name}": _attack(name) for name in ATTACKS}
    rows = [
        (
            rst.link(f"attack-{name}", name),
            rst.plain(attack_label({"name": name}).partition(",")[0]),
            NORMS[norm_of({"name": name})],
            rst.first_line(ATTACKS[name]),
        )
        for name in ATTACKS
    ]
    losses = [(rst.code(loss), rst.description(_attack_loss(loss))) for loss in AttackLoss]
    found["attacks/index"] = rst.page(
        rst.heading("Attacks", 0, "attacks"),
        "``--attack NAME`` takes one; ``--set KEY=VALUE`` changes a parameter. "
        r"In the equations :math:`x` is the clean image with pixels in :math:`[0, 1]`, :math:`y` "
        r"its label, :math:`z(x)` the logits, :math:`\mathcal{L}` the loss that is maximised, and "
        r":math:`\Pi` the projection into the ball of radius :math:`\epsilon` around :math:`x` and "
        r"into :math:`[0, 1]`.",
        rst.table(("Name", "In tables", "Norm", "What it does"), rows),
        rst.heading("What attacks maximise", 1, "attack-losses"),
        "``--loss NAME`` of every attack that follows a gradient. For a target class it is "
        "minimised.",
        rst.table(("Loss", "Of one image"), losses),
        rst.contents(ATTACKS),
    )
    return found


def _attack_loss(loss: AttackLoss) -> object:
    """What computes a loss that attacks maximise."""
    return getattr(SupervisedModel, CARRIED[loss]) if loss in CARRIED else ON_LOGITS[loss]


def _attack(name: str) -> str:
    kind = ATTACKS[name]
    label = attack_label({"name": name}).partition(",")[0]
    varying = [
        (data.title, scale, load_attack(name, data.name, scale).dump())
        for data in DATASETS.values()
        for scale in SCALES
    ]
    return rst.page(
        rst.heading(name, 0, f"attack-{name}"),
        f"{rst.plain(label)}, a budget in {NORMS[norm_of({'name': name})]}.",
        rst.description(kind),
        *_parameters(kind),
        _by_data(varying),
        f"On the command line: ``pclbench attack MODEL --attack {name}``.",
    )


def _losses() -> dict[str, str]:
    found = {}
    for name in LOSSES:
        kind = LOSSES[name]
        computed = getattr(kind, "implementation", None)
        more = rst.description(resolve(f"loss {name}", computed)) if computed else ""
        found[f"losses/{name}"] = rst.page(
            rst.heading(name, 0, f"loss-{name}"),
            rst.description(kind),
            more,
            *_parameters(kind),
        )
    found["losses/index"] = _listed(
        "Losses",
        "loss",
        LOSSES,
        "Losses on the features :math:`f` of layers, which ``--loss NAME`` adds to cross-entropy. "
        ":math:`y` is the label, :math:`k` the number of classes, :math:`w_j` the prototype of "
        "class :math:`j`.",
    )
    return found


def _defenses() -> dict[str, str]:
    found = {}
    for name in DEFENSES:
        kind = DEFENSES[name]

        def settings(data: DatasetSpec, scale: Scale, kind: type[Any] = kind) -> Settings:
            return kind.settings(data, SIZES[scale].min_max_steps)  # type: ignore[no-any-return]

        found[f"defenses/{name}"] = rst.page(
            rst.heading(name, 0, f"defense-{name}"),
            f"{kind.citation}." if kind.citation else "",
            rst.description(kind),
            *_parameters(kind),
            _by_data(_settings(settings)),
        )
    found["defenses/index"] = _listed(
        "Defences",
        "defense",
        DEFENSES,
        "Training schemes: what a batch goes through before its loss is minimised. "
        "A recipe names one in its field ``defense``.",
    )
    return found


def _settings(
    of: Callable[[DatasetSpec, Scale], Settings],
) -> list[tuple[str, str, Settings]]:
    return [(data.title, scale, of(data, scale)) for data in DATASETS.values() for scale in SCALES]


def _parameters(kind: type[Configuration]) -> tuple[str, ...]:
    rows = [
        (rst.code(name), rst.code(value(default)), rst.plain(what))
        for name, (default, what) in kind.parameters().items()
    ]
    return (
        rst.heading("Parameters", 1) if rows else "",
        rst.table(("Parameter", "Default", "What it says"), rows),
    )


def _by_data(settings: Iterable[tuple[str, str, Settings]]) -> str:
    """The parameters that are not the same on all data sets and at all scales."""
    known = list(settings)
    names = [
        name for name in known[0][2] if len({value(given.get(name)) for _, _, given in known}) > 1
    ]
    if not names:
        return ""
    rows: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for title, scale, given in known:
        rows.setdefault(tuple(value(given[name]) for name in names), []).append((title, scale))
    return rst.page(
        rst.heading("By data set and scale", 1),
        rst.table(
            ("Data set and scale", *map(rst.code, names)),
            [(_places(places), *map(rst.code, values)) for values, places in rows.items()],
        ),
    )


def _places(places: Iterable[tuple[str, str]]) -> str:
    """Data sets at scales in words: all scales of a data set together."""
    scales: dict[str, list[str]] = {}
    for title, scale in places:
        scales.setdefault(title, []).append(scale)
    titles: dict[str, list[str]] = {}
    for title, found in scales.items():
        titles.setdefault("" if len(found) == len(SCALES) else " and ".join(found), []).append(
            title
        )
    return "; ".join(
        ", ".join(found) + (f" ({scale})" if scale else "") for scale, found in titles.items()
    )


def _listed(title: str, kind: str, family: Any, words: str) -> str:
    rows = [
        (rst.link(f"{kind}-{name}", name), rst.first_line(family[name]).rstrip(".") + ".")
        for name in family
    ]
    label = {"loss": "losses", "defense": "defenses"}[kind]
    return rst.page(
        rst.heading(title, 0, label),
        words,
        rst.table(("Name", "What it is"), rows),
        rst.contents(family),
    )
