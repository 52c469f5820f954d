"""The workspace: what a notebook and every command ask for artefacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_pcl.attacks.base import Attack, Norm
from robustbench_pcl.configuration import Mode
from robustbench_pcl.evaluation import imported
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.pipeline.stored import StoredWorstCase, judge, worst_case
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import load_attack
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.checkpoints import Checkpoint
from robustbench_pcl.store.embeddings import Embedding, View
from robustbench_pcl.store.records import Measurement

if TYPE_CHECKING:
    from robustbench_pcl.models.supervised import SupervisedModel
    from robustbench_pcl.pipeline import export
    from robustbench_pcl.report import image_files
else:
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

    def model(self, recipe: Recipe) -> SupervisedModel:
        """The trained model of a recipe, in eval mode on the device."""
        return self.restored(self.train(recipe))

    def adversarial_set(
        self,
        source: Recipe,
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
        target: Recipe,
        attack: Attack | str | None = None,
        source: Recipe | None = None,
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

    def judge(self, target: Recipe, images: AdversarialSet) -> Measurement:
        """The accuracy of a target on any stored set, whoever made it."""
        return judge(self, self.train(target), images)

    def worst_case(
        self,
        target: Recipe,
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
        return worst_case(self, self.train(target), clean, budget.norm, budget.eps)

    def export(self, what: str, output: Path | str) -> int:
        """Write a set or a measurement, by its id or file, as .h5, .npz, .csv or .jsonl.

        Returns:
            The number of images.
        """
        return image_files.write_per_image([export.one_stored(self, what)], Path(output))

    def embedding(self, recipe: Recipe, view: View, *, images: int | None = None) -> Embedding:
        """A recipe's features as points in the plane."""
        return self.make(Embed(recipe, view, images))


def _complete(attack: Attack | str, recipe: Recipe) -> Attack:
    if isinstance(attack, Attack):
        return attack
    return load_attack(attack, recipe.dataset, recipe.scale)
