"""Find or make an embedding: what a figure of features is drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.embedding import POINTS, embedding_spec, lay_out
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.paper.figure import PENULTIMATE
from robustbench_pcl.paper.figures import epochs_looked_at
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.specs.view import View
from robustbench_pcl.store import embeddings as store
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.embeddings import Embedding, EmbeddingSpec
from robustbench_pcl.store.home import now
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.training.assemble import describe_environment
from robustbench_pcl.training.loop import AfterEpoch

if TYPE_CHECKING:
    from robustbench_pcl.jobs.bench import Bench


def find_embedding(bench: Bench, recipe: Recipe, view: View) -> Embedding | None:
    """The stored embedding of a view, or None."""
    if view.epoch is not None:
        spec = _spec_in_training(bench, recipe, view.epoch)
    else:
        checkpoint = bench.checkpoint(recipe)
        images = bench.find_adversarial_set(recipe, view.attack) if view.attack else None
        if checkpoint is None or (view.attack and images is None):
            return None
        dataset = bench.dataset(recipe.dataset)
        spec = embedding_spec(checkpoint.record, view, dataset, bench.count(recipe), images)
    return store.find_embedding(bench.home.embeddings, spec.id)


def embed(bench: Bench, recipe: Recipe, view: View) -> Embedding:
    """The embedding of a view, made now unless it is stored.

    Args:
        bench: where artefacts are.
        recipe: whose features; trained first if need be.
        view: which features of which images.

    Raises:
        UserError: the view cannot be had of this recipe, or training did not keep it.
    """
    stored = find_embedding(bench, recipe, view)
    if stored is not None:
        return stored
    checkpoint = bench.train(recipe)
    if view.epoch is not None:
        stored = find_embedding(bench, recipe, view)
        if stored is None:
            raise UserError(
                f"The features of {recipe.name} after epoch {view.epoch} were not kept when it "
                "was trained.",
                f"Move {checkpoint.path} away and run the command again: training it keeps them.",
            )
        return stored
    images = bench.craft(recipe, view.attack) if view.attack else None
    dataset = bench.dataset(recipe.dataset)
    spec = embedding_spec(checkpoint.record, view, dataset, bench.count(recipe), images)
    return _make(bench, bench.model(recipe), spec, images)


def keeper(bench: Bench, recipe: Recipe) -> AfterEpoch:
    """What a training does before its first epoch and after each: keep what figures look at.

    That is the features of two neurons under a loss on features: a forward pass, and no t-SNE.
    """
    epochs = epochs_looked_at(recipe) if recipe.embedding == 2 and recipe.taps else ()

    def keep(model: SupervisedModel, epoch: int) -> None:
        if epoch in epochs:
            _make(bench, model, _spec_in_training(bench, recipe, epoch), None)

    return keep


def _spec_in_training(bench: Bench, recipe: Recipe, epoch: int) -> EmbeddingSpec:
    """What the features after an epoch are made from.

    However many images are attacked now: what training did not keep cannot be made later.
    """
    dataset = bench.dataset(recipe.dataset)
    identity = recipe.id(dataset.train.digest)
    model = ModelRecord(checkpoint=identity, weights="", recipe=recipe)
    return embedding_spec(model, View(layer=PENULTIMATE, epoch=epoch), dataset, POINTS, None)


def _make(
    bench: Bench, model: SupervisedModel, spec: EmbeddingSpec, images: AdversarialSet | None
) -> Embedding:
    dataset = bench.dataset(spec.data.dataset)
    layout = lay_out(model, spec, dataset, images, bench.device)
    return store.save_embedding(
        bench.home.embeddings, spec, layout, describe_environment(bench.device), now()
    )
