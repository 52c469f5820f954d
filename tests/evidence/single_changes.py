"""Single changes to a workspace, and all that can be read of it without ``pclbench verify``."""

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tampering import (
    Chance,
    a_digit,
    a_hidden_pixel,
    a_larger_radius,
    a_verdict_bit,
    another_verdict,
    field,
    files,
    in_a_set,
    in_a_summary,
    larger_margins,
    other_digit,
    seal_again,
    swap,
)

from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import checked_batches
from robustbench_pcl.report.results import load_evidence
from robustbench_pcl.store.adversarial_sets import find_set
from robustbench_pcl.store.checkpoints import find_checkpoints, load_arrays, load_state
from robustbench_pcl.store.parts import open_part
from robustbench_pcl.store.records import Paths

STORED = ("results/*/*", "results/adversarial_sets/*.parts/*", "checkpoints/*", "checkpoints/*/*")
"""Patterns of all that is stored."""
ARRAYS = ("checkpoints/*", "checkpoints/partial/*", "results/embeddings/*")
"""Patterns of safetensors files."""


def anything(home: Path) -> list[Path]:
    return sorted({path for pattern in STORED for path in home.glob(pattern) if path.is_file()})


# Changes by an accident, or by somebody who knows of no digests.


def a_stored_byte(home: Path, chance: Chance) -> None:
    path = chance.choice(anything(home))
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    path.write_bytes(content)


def a_cut_file(home: Path, chance: Chance) -> None:
    path = chance.choice(anything(home))
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def an_array(home: Path, chance: Chance) -> None:
    """One byte of weights, momentum or points."""
    path = chance.choice(files(home, chance.choice(ARRAYS)))
    content = bytearray(path.read_bytes())
    (header,) = struct.unpack("<Q", content[:8])
    content[chance.randrange(8 + header, len(content))] ^= chance.randrange(1, 256)
    path.write_bytes(content)


def a_header(home: Path, chance: Chance) -> None:
    """One digit of what a safetensors file says of its arrays."""
    path = chance.choice(files(home, chance.choice(ARRAYS)))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + length].decode()
    match = chance.choice(list(re.finditer(r"\d", header)))
    header = header[: match.start()] + other_digit(chance, match[0]) + header[match.end() :]
    path.write_bytes(content[:8] + header.encode() + content[8 + length :])


def another_name(home: Path, chance: Chance) -> None:
    """One digit of an id in a file's name."""
    paths = [path for path in anything(home) if not path.parent.suffix]
    path = chance.choice(paths)
    match = chance.choice(list(re.finditer(r"[0-9a-f]", path.stem[-12:])))
    place = len(path.stem[:-12]) + match.start()
    name = path.stem[:place] + other_digit(chance, match[0]) + path.stem[place + 1 :]
    path.rename(path.with_name(name + path.suffix))


def a_copy(home: Path, chance: Chance) -> None:
    """A record under a name that nobody gave it: it would be counted twice."""
    path = chance.choice([path for path in anything(home) if path.suffix == ".json"])
    path.with_name(f"{chance.randrange(16**12):012x}.json").write_bytes(path.read_bytes())


def two_swapped(home: Path, chance: Chance) -> None:
    kind = ("results/measurements/*", "results/trainings/*", "results/adversarial_sets/*.h5")
    swap(*chance.sample(files(home, chance.choice((*kind, "checkpoints/*.safetensors"))), 2))


def predictions_that_are_labels(home: Path, chance: Chance) -> None:
    with h5py.File(a_set_with_errors(home, chance), "r+") as file:
        file["predictions"][:] = file["labels"][:]


def a_set_with_errors(home: Path, chance: Chance) -> Path:
    paths = []
    for path in files(home, "results/adversarial_sets/*.h5"):
        with h5py.File(path) as file:
            if (file["predictions"][:] != file["labels"][:]).any():
                paths.append(path)
    return chance.choice(paths)


def all_images(value: float) -> Callable[[Path, Chance], None]:
    def change(home: Path, chance: Chance) -> None:
        with h5py.File(chance.choice(files(home, "results/adversarial_sets/*.h5")), "r+") as file:
            file["images"][:] = value

    return change


def to(name: str, value: Any) -> Callable[[Path, Chance], None]:
    """A field of a measurement, as it must not be."""

    def change(home: Path, chance: Chance) -> None:
        path = chance.choice(files(home, "results/measurements/*.json"))
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    return change


MEASURED = ("n", "correct", "interval", "verdicts", "id", "adversarial_set", "correct_8bit")
ACCIDENTS = (
    *(a_digit, a_digit, a_stored_byte, a_stored_byte, a_cut_file, an_array, an_array),
    *(a_header, a_header, another_name, a_copy, two_swapped, predictions_that_are_labels),
    *(all_images(0), all_images(np.nan), to("correct", 999), to("interval", [0.0, 0.2])),
    *(to("n", -1), field("measurements", *MEASURED), field("measurements", "seconds", "created")),
    *(field("trainings", "history", "seconds_per_epoch"), field("diagnoses", "seconds", "checks")),
    *(in_a_set("labels"), in_a_set("predictions"), in_a_set("images"), in_a_set("felled_by")),
    *(in_a_set("indices"), in_a_summary, a_larger_radius, larger_margins, another_verdict),
)
"""Whatever they change is not read as a number, and is found."""
FORGERIES = (
    *(field("measurements", *MEASURED), field("measurements", "largest_linf", "mean_l2")),
    *(field("trainings", "seconds_per_epoch"), field("diagnoses", "clean", "correct", "n")),
    *(a_verdict_bit, larger_margins, a_hidden_pixel, in_a_summary, another_verdict),
    *(in_a_set("labels"), in_a_set("predictions"), in_a_set("images"), a_larger_radius),
    *(all_images(0), predictions_that_are_labels, to("correct", 999), to("interval", [0.0, 0.2])),
)
"""By somebody who makes the digests anew: they are found by ``pclbench verify``."""


def damage(home: Path, number: int) -> tuple[str, bool]:
    """Make the change of that number, the same every time; what it is, and if digests are anew."""
    chance = random.Random(number)
    forged = number % 3 == 0
    changes = FORGERIES if forged else ACCIDENTS
    change = changes[(number // 3 if forged else number - number // 3 - 1) % len(changes)]
    change(home, chance)
    if forged:
        seal_again(home)
    return f"{change.__qualname__}{', digests made anew' if forged else ''}", forged


def read(home: Path) -> dict[str, Any]:
    """All numbers that are read of a workspace for reports, measuring and training, by what it is.

    What is refused is not among them.
    """
    paths, dataset = Paths(home), load("digits")
    evidence = load_evidence(paths, passed_over=lambda error: None)
    # Beside a number stands what a diagnosis says of it, as long as that can be read.
    measured = evidence.measurements.drop(columns=["verdict", "diagnosis"])
    frames = {"measurement": measured, "training": evidence.trainings}
    found: dict[str, Any] = {
        f"{kind} {row[keys(kind)]}": repr(row)
        for kind, frame in frames.items()
        for row in frame.to_dict("records")
    }
    for each in (*evidence.diagnoses, *evidence.certificates):
        found[f"{each.what} {each.id}"] = repr(each)
    for embedding in evidence.embeddings:
        put(found, embedding.spec.id, lambda each=embedding: plain(each.layout().arrays()))
    for path in paths.adversarial_sets.glob("*.h5"):
        put(found, path.stem, lambda name=path.stem: read_set(paths, name, dataset))
    for path in paths.adversarial_sets.glob("*.parts/*.h5"):
        put(found, path.name, lambda path=path: plain(vars(open_part(path, path.parent.stem))))
    for path in paths.checkpoints.glob("*.safetensors"):
        put(found, path.stem[-25:], lambda name=path.stem: read_checkpoint(paths, name[-25:-13]))
    for path in paths.partial.glob("*.safetensors"):
        put(found, f"state {path.stem}", lambda path=path: read_state(path))
    return found


def keys(kind: str) -> str:
    return "id" if kind == "measurement" else "weights"


def put(found: dict[str, Any], name: str, content: Callable[[], Any]) -> None:
    try:
        found[name] = content()
    except UserError:
        return


def read_set(paths: Paths, name: str, dataset: Any) -> Any:
    images = find_set(paths.adversarial_sets, name)
    assert images is not None
    pixels = [batch.tobytes() for batch, _ in checked_batches(images, dataset, 4)]
    return pixels, plain(images.columns), repr((images.spec, images.summary, images.stages))


def read_checkpoint(paths: Paths, identity: str) -> Any:
    found = find_checkpoints(paths.checkpoints, identity)
    return [
        (repr(each.record), plain(load_arrays(each.path, each.record.weights))) for each in found
    ]


def read_state(path: Path) -> Any:
    arrays, history = load_state(path, path.stem)
    return plain(arrays), history


def plain(arrays: Any) -> dict[str, Any]:
    return {
        name: value.tobytes() if isinstance(value, np.ndarray) else repr(value)
        for name, value in sorted(arrays.items())
        if name != "path"
    }
