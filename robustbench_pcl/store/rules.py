"""What is asked of a file before it is believed: its digest, and that it is at one.

At one: ids, counts, intervals and budgets follow from the rest of it. Whoever reads a record asks,
and ``pclbench verify`` asks the same. Nothing here looks at another file.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from robustbench_pcl.configuration import Dump, Mode, digest
from robustbench_pcl.errors import shortened
from robustbench_pcl.recipe import ExternalModel

if TYPE_CHECKING:
    from robustbench_pcl.store.records import Measurement, ModelRecord, TrainingRecord

REPAIR = "Move it away and run the command again, or let that be done: pclbench verify --repair"
"""What to do about a file that is not as it was written."""
SEAL = "record_digest"
"""Where a record's file, or the header of arrays, keeps the digest of all else that it says."""
Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""
MARGIN_PERCENTILES = (5, 25, 50, 75, 95)
"""Of logit margins: those that are kept beside clean accuracy."""
ROUNDING = 1e-5
"""float32 pixels may leave their range or budget by a rounding error; 1/255 is 4e-3."""
MOST_IMAGES = 10**7
"""No record is about more."""


class Fault(NamedTuple):
    """Something in a record that contradicts the rest of it.

    Attributes:
        what: in a few words, as a rule the field.
        expected: what follows from the rest.
        found: what stands there.
    """

    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        found, expected = (shortened(str(each), 60) for each in (self.found, self.expected))
        return f"{self.what}: {found}; expected: {expected}"


Faults = Iterator[Fault]


def unequal(what: str, expected: object, found: object) -> Faults:
    """A fault where two things differ."""
    if expected != found:
        yield Fault(what, expected, found)


def outside(what: str, value: float, low: float, high: float = math.inf) -> Faults:
    """A fault where a number is not between two others."""
    if not low <= value <= high:
        yield Fault(what, f"{low:g} to {high:g}" if high < math.inf else f"at least {low:g}", value)


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """A file's content with the digest of it, by which a later change of any of it is found."""
    return {**content, SEAL: digest(content)}


def unsealed(content: Any) -> Faults:
    """Take the digest out of a file's content; a fault where it is of another one.

    Files that were written before there was one have none.
    """
    if isinstance(content, dict) and SEAL in content:
        seal = content.pop(SEAL)
        yield from unequal(SEAL, digest(content), seal)


def wilson(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), as fractions in [0, 1].

    Args:
        correct: successes, at most ``n``.
        n: trials, at least 1.
        z: quantile; 1.96 for 95 %.
    """
    share = correct / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def measurement_id(target: ModelRecord, **images: str | int) -> str:
    """The id of an accuracy: of the model, and the ``set`` or the clean ``data`` and ``n``.

    An external model has any scale, which tells among which numbers its own are shown.
    """
    external = isinstance(target.recipe, ExternalModel)
    scale = {"scale": target.recipe.scale} if external else {}
    return digest({"target": target.key, **scale, **images})


def set_id(
    source: ModelRecord | None, attack: Dump, data: str, *, n: int, seed: int, mode: Mode
) -> str:
    """The id of an adversarial set: what it is made from decides it, names do not.

    Args:
        source: the model that is attacked; None for images that were crafted elsewhere.
        attack: complete.
        data: digest of the clean images.
        n: how many, the first of the split.
        seed: of random starts.
        mode: how the images are made.
    """
    return digest(
        {
            "source": source and source.key,
            "attack": attack,
            "data": data,
            "n": n,
            "seed": seed,
            "mode": mode,
        }
    )


def model_faults(model: ModelRecord) -> Faults:
    """An external model's id and weights are those of its description.

    A recipe's id follows from its training images, too, which only its training record names.
    """
    if isinstance(recipe := model.recipe, ExternalModel):
        yield from unequal(f"checkpoint of {recipe.name}", recipe.id(), model.checkpoint)
        yield from unequal(f"weights of {recipe.name}", recipe.weights, model.weights)


def attack_faults(attack: Dump) -> Faults:
    """An attack has a name, by which it is known."""
    if not isinstance(attack.get("name"), str):
        yield Fault("attack", "one with a name", attack)


def measurement_faults(record: Measurement) -> Faults:
    """Id, set's id, counts, verdicts, interval, costs and perturbations."""
    n = record.n
    if not 0 < n <= MOST_IMAGES:
        yield Fault("n", f"1 to {MOST_IMAGES}", n)
        return
    yield from model_faults(record.target)
    if record.source is not None:
        yield from model_faults(record.source)
    yield from _id_faults(record)
    bits = verdict_bits(record.verdicts, n)
    if bits is None:
        yield Fault("verdicts", f"{n} bits, then zeros", record.verdicts)
        return
    correct = bits.bit_count()
    yield from unequal("correct", correct, record.correct)
    yield from unequal("interval", wilson(correct, n), record.interval)
    if record.correct_8bit is not None:
        yield from outside("correct_8bit", record.correct_8bit, 0, n)
    if record.mode == "early-stop":
        yield from unequal("correct_8bit", None, record.correct_8bit)
    yield from _felling_faults(record, bits)
    margins = record.margins
    known = len(margins) in (0, 0 if record.attack else len(MARGIN_PERCENTILES))
    if not known or list(margins) != sorted(margins):
        yield Fault("margins", f"percentiles {MARGIN_PERCENTILES}", margins)
    for what in ("seconds", "forward_passes", "backward_passes"):
        yield from outside(what, getattr(record, what), 0)
    yield from _clean_faults(record) if record.attack is None else _size_faults(record)


def verdict_bits(verdicts: str, n: int) -> int | None:
    """Verdicts as a number of ``n`` bits; None if they are no such thing, or padded by others."""
    if len(verdicts) != 2 * ((n + 7) // 8) or not set(verdicts) <= set("0123456789abcdef"):
        return None
    padding = -n % 8
    bits = int(verdicts, 16)
    return None if bits & ((1 << padding) - 1) else bits >> padding


def _id_faults(record: Measurement) -> Faults:
    """The id, and the set's, are those of what the record names."""
    images: dict[str, str | int] = {"data": record.data.digest, "n": record.n}
    if record.adversarial_set is not None:
        images = {"set": record.adversarial_set}
    yield from unequal("id", measurement_id(record.target, **images), record.id)
    if record.attack is not None:
        yield from attack_faults(record.attack)
        described = set_id(
            record.source,
            record.attack,
            record.data.digest,
            n=record.n,
            seed=record.seed,
            mode=record.mode,
        )
        yield from unequal("adversarial_set", described, record.adversarial_set)


def _felling_faults(record: Measurement, bits: int) -> Faults:
    """An image withstood exactly if no stage felled it and it was right when clean."""
    if not record.felled_by:
        yield from unequal("stages", (), record.stages)
        return
    try:
        codes = bytes.fromhex(record.felled_by)
    except ValueError:
        codes = b""
    if len(codes) != record.n:
        yield Fault("images in felled_by", record.n, len(codes))
        return
    right = f"{bits:0{record.n}b}"
    stood = codes.translate(_STOOD).decode()
    if stood != right:
        differ = [place for place in range(record.n) if stood[place] != right[place]]
        yield Fault("images whose felled_by contradicts their verdict", [], differ[:10])
    stages = max(codes) - 1
    if stages > len(record.stages):
        yield Fault("stages", f"at least {stages}", len(record.stages))


_STOOD = b"1" + b"0" * 255
"""From the code of a stage to "1" where an image withstood, "0" where it did not."""


def _clean_faults(record: Measurement) -> Faults:
    """Clean images are 8-bit images, on which nothing was spent."""
    defaults = {
        **{"source": None, "adversarial_set": None, "mode": "exact", "largest_linf": 0.0},
        **{"mean_l2": 0.0, "seconds": 0.0, "forward_passes": 0, "backward_passes": 0},
        **{"correct_8bit": record.correct, "seed": record.target.recipe.seed, "felled_by": ""},
    }
    for what, expected in defaults.items():
        yield from unequal(what, expected, getattr(record, what))
    yield from unequal("largest_l2", 0.0, record.largest_l2 or 0.0)


def _size_faults(record: Measurement) -> Faults:
    """Perturbations are sizes of changes of pixels in [0, 1], within the budget."""
    linf, l2 = record.largest_linf, record.largest_l2
    yield from outside("largest_linf", linf, 0, 1 + ROUNDING)
    yield from outside("mean_l2", record.mean_l2, 0)
    if l2 is not None:
        yield from outside("largest_l2", l2, max(linf, record.mean_l2) - ROUNDING)
    attack = record.attack or {}
    norm = "l2" if attack.get("norm") == "l2" else "linf"  # the smaller of the two, if not said
    yield from budget_faults(attack, norm, {"linf": linf, "l2": l2})


def budget_faults(
    attack: Mapping[str, Any], norm: str, sizes: Mapping[str, float | None]
) -> Faults:
    """No image is farther from its clean one than the attack's budget, where it has one.

    Args:
        attack: complete.
        norm: of the budget.
        sizes: the largest perturbation in each norm; None where that is not known.
    """
    size, eps = sizes.get(norm), attack.get("eps")
    if size is None or not isinstance(eps, int | float):
        return
    if not 0 <= size <= eps + ROUNDING:
        yield Fault(f"largest_{norm}", f"at most {eps:g}", size)


def training_faults(record: TrainingRecord) -> Faults:
    """The checkpoint's id is that of recipe and images; the history is of the recipe's epochs."""
    yield from unequal("checkpoint", record.recipe.id(record.data.digest), record.checkpoint)
    yield from outside("seconds_per_epoch", record.seconds_per_epoch, 0)
    epochs = [entry.get("epoch") for entry in record.history]
    expected = list(range(1, record.recipe.schedule.epochs + 1))
    yield from unequal("epochs of the history", expected, epochs)
    seconds = [entry.get("seconds") for entry in record.history]
    known = [float(each) for each in seconds if isinstance(each, int | float)]
    if known and len(known) == len(seconds):
        median = statistics.median(known)
        yield from unequal("seconds_per_epoch", median, record.seconds_per_epoch)
    for entry in record.history:
        numbers = (each for each in entry.values() if isinstance(each, float))
        if not all(map(math.isfinite, numbers)):
            yield Fault(f"epoch {entry.get('epoch')}", "finite numbers", "others")
        if not 0 <= entry.get("training_accuracy", 0) <= 1:
            yield Fault(f"epoch {entry.get('epoch')}", "a training accuracy of 0 to 1", "another")
