"""Writing a bundle: a workspace of what was selected, with page, tables and manifest (docs)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.data.loader import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.manifest import (
    MANIFEST,
    Manifest,
    Selection,
    record_of,
    walk,
    write_listing,
)
from robustbench_pcl.evidence.rendered import (
    IMAGES,
    distinct_models,
    environments,
    image_rows,
    recipes,
    rendered,
)
from robustbench_pcl.evidence.stored import Judged
from robustbench_pcl.paper.tables import published, published_numbers
from robustbench_pcl.report.per_image import Answered
from robustbench_pcl.store.adversarial_sets import copy_set, find_set, open_set
from robustbench_pcl.store.atomic import filling_folder
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.checkpoints import open_checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import Embedding, load_embeddings
from robustbench_pcl.store.formats import check_format
from robustbench_pcl.store.reading import PassedOver, load_each
from robustbench_pcl.store.records import (
    Measurement,
    ModelRecord,
    Paths,
    TrainingRecord,
    find_measurement,
    load_records,
    save_record,
)
from robustbench_pcl.store.rules import measurement_id
from robustbench_pcl.version import __version__

Say = Callable[[str], None]


@dataclass(frozen=True)
class Chosen:
    """What of a workspace goes into a bundle.

    Attributes:
        measurements: of the selected models.
        trainings: of the same, and of the models that images were made on.
        diagnoses: of the selected models.
        certificates: of the selected models.
        embeddings: of the selected models.
    """

    measurements: Sequence[Measurement]
    trainings: Sequence[TrainingRecord]
    diagnoses: Sequence[Diagnosis]
    certificates: Sequence[Certificate]
    embeddings: Sequence[Embedding]

    @property
    def judged(self) -> Sequence[Judged]:
        """All that names a model and images."""
        return (*self.measurements, *self.diagnoses, *self.certificates)


def write_bundle(
    paths: Paths,
    folder: Path,
    selection: Selection,
    *,
    weights: bool = False,
    sets: bool = False,
    say: Say = print,
    passed_over: PassedOver | None = None,
) -> str:
    """Write a bundle in one step; the same evidence makes the same bytes.

    Args:
        paths: of the workspace.
        folder: of the bundle; not there, or empty.
        selection: what of the workspace.
        weights: with the checkpoints.
        sets: with the adversarial sets.
        say: is told what is asked for but not there.
        passed_over: is told why a file of the workspace is left out; None to raise that.

    Returns:
        The digest of its manifest.

    Raises:
        UserError: the folder is not empty, nothing is stored of what is selected, or a file is
            damaged and ``passed_over`` is None.
    """
    check_format(paths)
    chosen = choose(paths, selection, passed_over)
    with filling_folder(folder) as new:
        bundle = Paths(new)
        _copy_records(chosen, bundle)
        for path, text in _texts(chosen, paths, bundle, selection, say):
            place = new / path
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(text.encode())
        if weights:
            _copy_weights(chosen, paths, bundle, say, passed_over)
        if sets:
            _copy_sets(chosen, paths, bundle, say, passed_over)
        manifest = Manifest(
            pclbench=__version__,
            selection=selection,
            environments=environments((*chosen.judged, *chosen.trainings)),
            files={name: record_of(path) for name, path in sorted(walk(new)) if path},
        )
        return write_listing(new / MANIFEST, manifest)


def selector(selection: Selection) -> Callable[[ModelRecord], bool]:
    """Whether what is about a model is selected.

    Raises:
        UserError: there is no such data set or table.
    """
    datasets = {dataset_spec(name).name for name in selection.datasets}
    for number in selection.tables:
        if number not in published_numbers():
            known = ", ".join(map(str, published_numbers()))
            raise UserError(f"Nothing is measured for a table {number}.", f"Those are {known}.")
    names = {
        *selection.models,
        *(
            position.cell.target
            for number in selection.tables
            for dataset in published(number).datasets
            for position in published(number).positions(dataset)
        ),
    }

    def wanted(model: ModelRecord) -> bool:
        recipe = model.recipe
        return (
            (not names or recipe.name in names)
            and (not datasets or recipe.dataset in datasets)
            and selection.scale in (None, recipe.scale)
            and (not selection.seeds or recipe.seed in selection.seeds)
        )

    return wanted


def choose(paths: Paths, selection: Selection, passed_over: PassedOver | None = None) -> Chosen:
    """What is stored of what is selected.

    Raises:
        UserError: nothing is, or a file is damaged and ``passed_over`` is None.
    """
    wanted = selector(selection)
    measurements = load_records(paths.measurements, Measurement, passed_over)
    measurements = [each for each in measurements if wanted(each.target)]
    if not measurements:
        cause = f"Nothing is measured in {paths.results} of what is asked for."
        raise UserError(cause, "See what there is: pclbench report.")
    diagnoses = load_records(paths.diagnoses, Diagnosis, passed_over)
    diagnoses = [each for each in diagnoses if wanted(each.target)]
    certificates = load_records(paths.certificates, Certificate, passed_over)
    certificates = [each for each in certificates if wanted(each.target)]
    models = distinct_models((*measurements, *diagnoses, *certificates))
    trainings = load_records(paths.trainings, TrainingRecord, passed_over)
    embeddings = load_embeddings(paths.embeddings, passed_over)
    return Chosen(
        measurements,
        [each for each in trainings if (each.checkpoint, each.weights) in models],
        diagnoses,
        certificates,
        [each for each in embeddings if wanted(each.spec.model)],
    )


def _copy_records(chosen: Chosen, bundle: Paths) -> None:
    for measurement in chosen.measurements:
        save_record(bundle.measurements, measurement.id, measurement)
    for training in chosen.trainings:
        save_record(bundle.trainings, f"{training.checkpoint}-{training.weights}", training)
    for diagnosis in chosen.diagnoses:
        save_record(bundle.diagnoses, diagnosis.id, diagnosis)
    for certificate in chosen.certificates:
        save_record(bundle.certificates, certificate.id, certificate)
    for embedding in chosen.embeddings:
        bundle.embeddings.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(embedding.path, bundle.embeddings / embedding.path.name)


def _texts(
    chosen: Chosen, paths: Paths, bundle: Paths, selection: Selection, say: Say
) -> Iterator[tuple[str, str]]:
    """What is read by people and other tools: path in the bundle, and content."""
    yield from rendered(bundle, selection).items()
    yield from recipes(chosen.judged).items()
    for measurement in chosen.measurements:
        try:
            rows = image_rows(_answered(measurement, bundle, paths.adversarial_sets))
        except UserError as error:
            say(f"Without the per-image rows of {measurement.id}: {error.cause}")
        else:
            yield f"{IMAGES}/{measurement.id}.csv", rows


def _answered(measurement: Measurement, bundle: Paths, sets: Path) -> Answered:
    """What a measurement says of each image, with its set if that is stored; nothing is fetched.

    Raises:
        UserError: the clean images are not on this machine or others, or the set is damaged.
    """
    clean = measurement_id(measurement.target, data=measurement.data.digest, n=measurement.n)
    name = measurement.adversarial_set
    images = find_set(sets, name) if name else None
    return Answered(
        load(measurement.data.dataset, download=False),
        images,
        measurement,
        find_measurement(bundle, clean),
    )


def _copy_weights(
    chosen: Chosen, paths: Paths, bundle: Paths, say: Say, passed_over: PassedOver | None
) -> None:
    """Copy the models' checkpoints; say whose are not there."""
    missing = distinct_models(chosen.judged)
    files = paths.checkpoints.glob("[!.]*.safetensors")
    for checkpoint in load_each(files, open_checkpoint, passed_over):
        record, path = checkpoint.record, checkpoint.path
        if missing.pop((record.checkpoint, record.weights), None):
            bundle.checkpoints.mkdir(exist_ok=True)
            shutil.copyfile(path, bundle.checkpoints / path.name)
    for model in missing.values():
        say(f"Without the weights of {model.recipe.name}: not in {paths.checkpoints}.")


def _copy_sets(
    chosen: Chosen, paths: Paths, bundle: Paths, say: Say, passed_over: PassedOver | None
) -> None:
    """Copy the adversarial sets that were measured on; say which are not there."""
    for name in sorted({each.adversarial_set or "" for each in chosen.measurements} - {""}):
        stored = paths.adversarial_sets / f"{name}.h5"
        if not stored.exists():
            say(f"Without adversarial set {name}: not in {paths.adversarial_sets}.")
            continue
        for images in load_each([stored], open_set, passed_over):
            bundle.adversarial_sets.mkdir(parents=True, exist_ok=True)
            copy_set(images, bundle.adversarial_sets / images.path.name)
