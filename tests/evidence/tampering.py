"""Single changes to a bundle, each of which changes a number, a verdict or what is there."""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file

from robustbench_pcl.evidence.manifest import MANIFEST
from robustbench_pcl.store.adversarial_sets import COLUMNS, TEXTS, content_digest
from robustbench_pcl.store.rules import SEAL, sealed, wilson

Chance = random.Random


def files(bundle: Path, pattern: str) -> list[Path]:
    found = sorted(path for path in bundle.glob(pattern) if path.is_file())
    assert found, pattern
    return found


def other_digit(chance: Chance, digit: str) -> str:
    return chance.choice([each for each in "0123456789" if each != digit])


def sign_again(bundle: Path) -> None:
    """Write a manifest that says of every file what is in it now."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"] = {
        path.relative_to(bundle).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "size": path.stat().st_size,
        }
        for path in files(bundle, "**/*")
        if path.name != MANIFEST
    }
    (bundle / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def seal_again(folder: Path) -> None:
    """Write the digests that records and sets keep of themselves, of what is in them now."""
    for path in folder.glob("results/*/*.json"):
        record = json.loads(path.read_text())
        if record.pop(SEAL, None):
            path.write_text(json.dumps(sealed(record), indent=1, ensure_ascii=False) + "\n")
    for path in folder.glob("results/adversarial_sets/*.h5"):
        with h5py.File(path, "r+") as file:
            texts = {name: file.attrs[name].decode() for name in TEXTS}
            summary = json.loads(texts["summary"])
            summary["images_digest"] = hashlib.sha256(file["images"][:].tobytes()).hexdigest()[:12]
            texts["summary"] = json.dumps(summary)
            columns = {name: file[name][:] for name in COLUMNS if name in file}
            summary["content_digest"] = content_digest(texts, columns)
            set_text(file, "summary", summary)


def set_text(file: h5py.File, name: str, content: object) -> None:
    file.attrs[name] = np.bytes_(json.dumps(content).encode())


# What somebody does who leaves the manifest as it is: any change at all.


def a_byte(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "**/*"))
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    content[place] ^= chance.randrange(1, 256)
    path.write_bytes(content)


def a_digit(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "results/**/*.json"))
    text = path.read_text()
    match = chance.choice(list(re.finditer(r"\d", text)))
    path.write_text(text[: match.start()] + other_digit(chance, match[0]) + text[match.end() :])


def swapped_files(bundle: Path, chance: Chance) -> None:
    folder = chance.choice(["results/measurements", "results/adversarial_sets", "checkpoints"])
    swap(*chance.sample(files(bundle, f"{folder}/*"), 2))


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def a_file_less(bundle: Path, chance: Chance) -> None:
    chance.choice([path for path in files(bundle, "**/*") if path.name != MANIFEST]).unlink()


def a_file_more(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "results/**/*"))
    shutil.copy(path, path.with_name(f"{chance.randrange(16**12):012x}{path.suffix}"))


def a_shorter_file(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "**/*"))
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


# What somebody does who then signs again: a number, a verdict or an image is another.


def field(folder: str, *names: str) -> Callable[[Path, Chance], None]:
    """A change of one digit, or of one item, of a field of a record."""

    def change(bundle: Path, chance: Chance) -> None:
        name = chance.choice(names)
        paths = [
            path
            for path in files(bundle, f"results/{folder}/*.json")
            if re.search(r"\d", json.dumps(json.loads(path.read_text()).get(name)) or "")
        ]
        path = chance.choice(paths)
        record = json.loads(path.read_text())
        new = record[name]
        while new == record[name]:  # the last of many digits may make no other number
            text = json.dumps(record[name])
            match = chance.choice(list(re.finditer(r"\d", text)))
            text = text[: match.start()] + other_digit(chance, match[0]) + text[match.end() :]
            if not text.startswith('"'):
                text = re.sub(r"(?<![\d.])0+(?=\d)", "1", text)  # no number begins with 0
            new = json.loads(text)
        path.write_text(json.dumps({**record, name: new}, indent=1) + "\n")

    return change


def a_verdict_bit(bundle: Path, chance: Chance) -> None:
    """One image's verdict, with the count and the interval that go with it."""
    path = chance.choice(files(bundle, "results/measurements/*.json"))
    record = json.loads(path.read_text())
    n, bits = record["n"], int(record["verdicts"], 16)
    bits ^= 1 << (4 * len(record["verdicts"]) - 1 - chance.randrange(n))
    correct = bits.bit_count()
    record |= {"verdicts": f"{bits:0{len(record['verdicts'])}x}", "correct": correct}
    record |= {"interval": wilson(correct, n)}
    if record["attack"] is None:
        record["correct_8bit"] = correct
    path.write_text(json.dumps(record, indent=1) + "\n")


def larger_margins(bundle: Path, chance: Chance) -> None:
    paths = files(bundle, "results/measurements/*.json")
    path = chance.choice([path for path in paths if json.loads(path.read_text())["margins"]])
    record = json.loads(path.read_text())
    factor = chance.choice([0.5, 0.9, 1.1, 2])
    record["margins"] = [factor * margin for margin in record["margins"]]
    path.write_text(json.dumps(record, indent=1) + "\n")


def a_swapped_pair(bundle: Path, chance: Chance) -> None:
    swap(*chance.sample(files(bundle, "results/measurements/*"), 2))


def a_swapped_pair_of_sets(bundle: Path, chance: Chance) -> None:
    swap(*chance.sample(files(bundle, "results/adversarial_sets/*"), 2))


def in_a_set(name: str) -> Callable[[Path, Chance], None]:
    """A change of one number in an array of a set."""

    def change(bundle: Path, chance: Chance) -> None:
        paths = files(bundle, "results/adversarial_sets/*.h5")
        path = chance.choice([path for path in paths if name in arrays_of(path)])
        with h5py.File(path, "r+") as file:
            where = tuple(chance.randrange(side) for side in file[name].shape)
            old = file[name][where]
            new = (old + chance.randrange(1, 10)) % 10
            if name == "images":
                new = np.float32(old + chance.choice([-1e-3, 1e-3]) if chance.random() < 0.5 else 1)
                new = new if new != old else np.float32(0)
            file[name][where] = new

    return change


def arrays_of(path: Path) -> list[str]:
    with h5py.File(path) as file:
        return list(file)


def a_hidden_pixel(bundle: Path, chance: Chance) -> None:
    """A pixel within the budget."""
    path = chance.choice(files(bundle, "results/adversarial_sets/*.h5"))
    with h5py.File(path, "r+") as file:
        images = file["images"][:]
        where = tuple(chance.randrange(side) for side in images.shape)
        images[where] = abs(images[where] - np.float32(chance.uniform(1e-3, 0.05)))
        file["images"][:] = images


def in_a_summary(bundle: Path, chance: Chance) -> None:
    """A perturbation's size in a set."""
    path = chance.choice(files(bundle, "results/adversarial_sets/*.h5"))
    with h5py.File(path, "r+") as file:
        summary = json.loads(file.attrs["summary"])
        name = chance.choice(["largest_linf", "largest_l2", "mean_l2"])
        summary[name] *= chance.choice([0.5, 0.999, 1.001, 2])
        set_text(file, "summary", summary)


def a_weight(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "checkpoints/*"))
    content = bytearray(path.read_bytes())
    size = sum(array.nbytes for array in load_file(path).values())
    content[len(content) - size + chance.randrange(size)] ^= chance.randrange(1, 256)
    path.write_bytes(content)


def a_point(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "results/embeddings/*"))
    content = bytearray(path.read_bytes())
    content[-1 - chance.randrange(8)] ^= 1 + chance.randrange(255)
    path.write_bytes(content)


def another_verdict(bundle: Path, chance: Chance) -> None:
    path = chance.choice(files(bundle, "results/diagnoses/*"))
    verdicts = ("saturated", "flat or rugged", "randomised", "attack too weak")
    record = json.loads(path.read_text()) | {"verdict": chance.choice(verdicts)}
    path.write_text(json.dumps(record, indent=1) + "\n")


def a_larger_radius(bundle: Path, chance: Chance) -> None:
    """One that is within the fooling radius, or not."""
    path = chance.choice(files(bundle, "results/certificates/*"))
    record = json.loads(path.read_text())
    record["certified"][chance.randrange(record["n"])] = chance.choice([1e-3, 0.04, 0.06, 0.3])
    path.write_text(json.dumps(record, indent=1) + "\n")


def in_what_is_shown(bundle: Path, chance: Chance) -> None:
    """A digit of the page, a table, a recipe, or a row of an image."""
    pattern = chance.choice(["report.html", "tables/*", "recipes/*", "images/*"])
    path = chance.choice(files(bundle, pattern))
    text = path.read_text()
    match = chance.choice(list(re.finditer(r"(?<=[\s,>\"])\d", text)))
    path.write_text(text[: match.start()] + other_digit(chance, match[0]) + text[match.end() :])


def a_measurement_less(bundle: Path, chance: Chance) -> None:
    chance.choice(files(bundle, "results/measurements/*")).unlink()


ANY = (a_byte, a_byte, a_byte, a_digit, swapped_files, a_file_less, a_file_more, a_shorter_file)
"""Changes by somebody who leaves the manifest as it is."""
FORGED = (
    field("measurements", "n", "correct", "interval", "verdicts"),
    field("measurements", "correct_8bit", "felled_by", "largest_linf", "largest_l2", "mean_l2"),
    larger_margins,
    field("measurements", "seed", "seconds", "forward_passes", "attack"),
    field("trainings", "seconds_per_epoch", "recipe", "checkpoint"),
    field("diagnoses", "n", "correct", "withstood", "interval", "code", "competence", "seed"),
    a_verdict_bit,
    a_swapped_pair,
    a_swapped_pair_of_sets,
    in_a_set("images"),
    in_a_set("labels"),
    in_a_set("predictions"),
    in_a_set("indices"),
    in_a_set("felled_by"),
    a_hidden_pixel,
    in_a_summary,
    a_weight,
    a_point,
    another_verdict,
    a_larger_radius,
    in_what_is_shown,
    a_measurement_less,
)
"""Changes by somebody who signs the bundle again."""


def tamper(bundle: Path, number: int) -> str:
    """Make the change of that number, the same every time; return what it is."""
    chance = random.Random(number)
    if number % 3 == 0:
        change = ANY[number // 3 % len(ANY)]
        change(bundle, chance)
        return change.__name__
    change = FORGED[(number - number // 3 - 1) % len(FORGED)]
    change(bundle, chance)
    seal_again(bundle)
    sign_again(bundle)
    return f"{change.__qualname__}, signed again"
