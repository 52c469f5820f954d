"""The workspace: what a notebook and every command ask for artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robustbench_pcl.attacks.base import Attack, Norm
from robustbench_pcl.configuration import Mode, Scale
from robustbench_pcl.evaluation import imported
from robustbench_pcl.lazy import LazyModule, torch
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.models import add_external
from robustbench_pcl.pipeline.stored import StoredWorstCase, judge, worst_case
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.pipeline.training import stored
from robustbench_pcl.recipe import AnyModel, Channels, ExternalModel, Recipe, read_origin
from robustbench_pcl.recipes.load import load_attack
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.checkpoints import Checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.embeddings import Embedding, View
from robustbench_pcl.store.records import Measurement

if TYPE_CHECKING:
    from torch import nn

    from robustbench_pcl.data import batches
    from robustbench_pcl.evaluation import inspection
    from robustbench_pcl.evaluation.inspection import Finding
    from robustbench_pcl.pipeline import export
    from robustbench_pcl.report import image_files
else:
    batches = LazyModule("robustbench_pcl.data.batches")
    inspection = LazyModule("robustbench_pcl.evaluation.inspection")
    export = LazyModule("robustbench_pcl.pipeline.export")
    image_files = LazyModule("robustbench_pcl.report.image_files")


class Workspace(Artefacts):
    """A folder of artefacts and the device that makes new ones; what is stored is never made again.

    ``workspace.make(task)`` and ``workspace.find(task)`` take any task; the methods below say the
    usual ones in short.
    """

    def train(self, recipe: Recipe) -> Checkpoint:
        """The checkpoint of a recipe; what it starts from is trained first."""
        return self.make(Train(recipe))

    def external(
        self,
        source: str,
        dataset: str,
        weights: Path | str = "",
        *,
        mean: Channels = (),
        std: Channels = (),
        output: str = "",
        name: str = "",
        scale: Scale = "quick",
    ) -> ExternalModel:
        """A model of your own, stored here; it then stands where a recipe may.

        Args:
            source: "my_model.py:Net", a class or a function without arguments, or
                "torchvision:resnet18".
            dataset: name of the data set that it classifies.
            weights: a safetensors file, a file of a state_dict, or "DEFAULT" for torchvision's own;
                "" for a model that loads its own.
            mean: subtracted from the pixels of each channel; one number for all.
            std: what they are divided by then.
            output: which part of what it returns is the logits: an attribute, a key or an index.
            name: what it is called; made from the source if "".
            scale: decides how many images are attacked.

        Raises:
            UserError: it cannot be loaded, or its name is another model's.
        """
        origin = read_origin(source=source, weights=str(weights), mean=mean, std=std, output=output)
        return add_external(self, origin, dataset, name=name, scale=scale)

    def inspect(self, model: AnyModel) -> list[Finding]:
        """What makes a robust accuracy of a model meaningless, asked on some clean test images.

        They are spread over the test set, which may be in the order of classes.
        """
        dataset = self.dataset(model.dataset)
        rows = np.unique(np.linspace(0, len(dataset.test) - 1, inspection.IMAGES, dtype=int))
        images = torch.from_numpy(np.array(dataset.test.images[rows])).to(self.device)
        labels = torch.from_numpy(np.array(dataset.test.labels[rows])).to(self.device)
        pixels = batches.pixels(images)
        return inspection.inspect_model(self.model(model), pixels, labels, dataset.spec)

    def model(self, model: AnyModel) -> nn.Module:
        """A model, in eval mode on the device; a recipe is trained first."""
        return self.restored(stored(self, model))

    def adversarial_set(
        self,
        source: AnyModel,
        attack: Attack | str,
        *,
        images: int | None = None,
        seed: int = 0,
        mode: Mode = "fast",
    ) -> AdversarialSet:
        """The adversarial set of an attack on a source.

        Args:
            source: the model that is attacked.
            attack: a configuration, or a name, which then has the data set's budget.
            images: how many test images; the scale's own number if None.
            seed: of random starts.
            mode: how; "fast" is answered by a stored exact set, too.
        """
        return self.make(Generate(source, _complete(attack, source), images, seed, mode))

    def measure(
        self,
        target: AnyModel,
        attack: Attack | str | None = None,
        source: AnyModel | None = None,
        *,
        images: int | None = None,
        seed: int = 0,
        mode: Mode = "fast",
    ) -> Measurement:
        """The accuracy of a target.

        Args:
            target: the model that is measured.
            attack: a configuration, or a name, which then has the data set's budget; None for
                clean accuracy.
            source: the model that the images are made on; the target itself if None.
            images: how many test images; the scale's own number if None.
            seed: of random starts.
            mode: how; see :class:`~robustbench_pcl.pipeline.tasks.Measure`.
        """
        complete = None if attack is None else _complete(attack, source or target)
        return self.make(Measure(target, source, complete, images, seed, mode))

    def import_images(
        self,
        file: Path | str,
        dataset: str,
        eps: str | float | None = None,
        norm: Norm = "linf",
    ) -> AdversarialSet:
        """The adversarial set of a file that another tool wrote.

        Args:
            file: HDF5, .npz, .npy, .pt, .pth or .safetensors (docs/export.md).
            dataset: the name of the data set whose test images they were made from.
            eps: their budget, in pixels of [0, 1]; the paper's for the data set if None.
            norm: of the budget.

        Raises:
            UserError: the images are not what they should be; the message says in what.
        """
        clean = self.dataset(dataset)
        budget = imported.read_budget(clean, norm, eps)
        folder = self.paths.adversarial_sets
        return imported.import_images(Path(file), clean, budget, folder, self.device)

    def judge(self, target: AnyModel, images: AdversarialSet) -> Measurement:
        """The accuracy of a target on any stored set, whoever made it."""
        return judge(self, stored(self, target), images)

    def worst_case(
        self,
        target: AnyModel,
        eps: str | float | None = None,
        norm: Norm = "linf",
        *,
        images: int | None = None,
    ) -> StoredWorstCase:
        """What a target withstands of every stored set within a budget; it is judged on all.

        Args:
            target: the model.
            eps: the budget, in pixels of [0, 1]; the paper's for the data set if None.
            norm: of the budget.
            images: how many test images; the scale's own number if None.
        """
        budget = imported.read_budget(self.dataset(target.dataset), norm, eps)
        clean = self.measure(target, images=images)
        return worst_case(self, stored(self, target), clean, budget.norm, budget.eps)

    def diagnose(
        self,
        model: AnyModel,
        attack: Attack | str = "pgd",
        eps: str | float | None = None,
        *,
        images: int | None = None,
        seed: int = 0,
        sources: Sequence[AnyModel] = (),
    ) -> Diagnosis:
        """Whether the accuracy that an attack leaves of a model holds, and why not.

        Args:
            model: what is diagnosed.
            attack: whose number is judged; a name has the data set's budget.
            eps: another budget, in pixels of [0, 1].
            images: how many test images; the scale's own number, 500 at most, if None.
            seed: of random starts.
            sources: other models, whose adversarial images are tried on this one.
        """
        complete = _complete(attack, model)
        if eps is not None:
            complete = complete.complete({**complete.dump(), "eps": eps})
        return self.make(Diagnose(model, complete, images, seed, tuple(sources)))

    def export(self, what: str, output: Path | str) -> int:
        """Write a set or a measurement, by its id or file, as .h5, .npz, .csv or .jsonl.

        Returns:
            The number of images.
        """
        return image_files.write_per_image([export.one_stored(self, what)], Path(output))

    def embedding(self, recipe: Recipe, view: View, *, images: int | None = None) -> Embedding:
        """A recipe's features as points in the plane."""
        return self.make(Embed(recipe, view, images))


def _complete(attack: Attack | str, recipe: AnyModel) -> Attack:
    if isinstance(attack, Attack):
        return attack
    return load_attack(attack, recipe.dataset, recipe.scale)
