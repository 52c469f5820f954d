"""From layers to a complete recipe: sizes, then what each layer says, then every default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError

from robustbench_pcl.configuration import SCALES, Description, Scale, explained
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.defenses import DEFENSES, Defense
from robustbench_pcl.defenses.adversarial import training_attack
from robustbench_pcl.errors import UserError, shortened, unknown_name
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES, LossConfiguration
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipe import AdversarialTraining, Recipe, Schedule
from robustbench_pcl.recipes.presets import PRESETS, SIZES, Layer, is_recipe, layers

SHARED = ("model", "width", "embedding", "seed", "train_images")
"""What a recipe and the one that it starts from have in common: the network and the data."""
MEMBERS = {"loss": "name", "defense": "name", "adversarial_training": "attack"}
"""Fields that are a member of a family and its parameters: field -> the key of the member's name.
The name alone stands for the member with its defaults."""
FIELDS = [name for name in Recipe.model_fields if name not in ("name", "scale", "dataset")]
"""What a layer can say of a recipe."""

Content = dict[str, Any]
"""A recipe in the making: its fields, not yet complete."""
D = TypeVar("D", bound=Description)


class RecipeBuilder:
    """Makes the recipes of one data set at one scale.

    Args:
        dataset: name of the data set.
        scale: how large.

    Raises:
        UserError: there is no such data set.
    """

    def __init__(self, dataset: str, scale: Scale) -> None:
        self.data = dataset_spec(dataset)
        self.scale = scale
        self.sizes = SIZES[scale]
        self._plain: dict[tuple[str, int], Recipe] = {}
        self._mixed: dict[str, list[str]] = {}

    def plain(self, name: str, seed: int) -> Recipe:
        """The complete recipe of a name as it is; each is built once.

        Raises:
            UserError: there is no such recipe, or what it says is wrong.
        """
        if (name, seed) not in self._plain:
            self._plain[name, seed] = self.build(name, {"seed": seed})
        return self._plain[name, seed]

    def mixed(self, attack: str) -> list[str]:
        """The names of recipes that are a preset's with an attack's after it."""
        if attack not in self._mixed:
            names = (f"{name}-{attack}" for name in PRESETS)
            self._mixed[attack] = [name for name in names if is_recipe(name)]
        return self._mixed[attack]

    def build(self, name: str, *further: Layer) -> Recipe:
        """The complete recipe of a name, with further layers over its own.

        Raises:
            UserError: there is no such recipe, or a layer says something that no recipe has, or
                that is wrong for it.
        """
        return self._complete(self._content(name, (*layers(name), *further)))

    def _content(self, name: str, made_of: Iterable[Layer]) -> Content:
        content: Content = {
            "name": name,
            "scale": self.scale,
            "dataset": self.data.name,
            "loss": {"name": CROSS_ENTROPY},
            "defense": {"name": "none"},
            "adversarial_training": None,
            "train_images": self.sizes.train_images,
            "schedule": dict(self.sizes.schedule),
            "start": None,
        }
        model = self.sizes.in_place_of.get(self.data.model, self.data.model)
        for layer in ({"model": model}, *made_of):
            self._lay(content, deepcopy(dict(layer)))
        return content

    def _lay(self, content: Content, layer: Content) -> None:
        """Lay what ``layer`` says over a recipe, and over the one that it starts from."""
        at = _table("at", layer.pop("at", {}))
        for scale in at:
            _check_name("scale", scale, SCALES)
        start = layer.pop("start", {})
        self._lay_sizes(content, layer)
        for key, value in layer.items():
            _check_name("field of a recipe", key, FIELDS)
            if key in MEMBERS:
                content[key] = _member(key, content[key], value)
            elif key == "schedule":
                content[key] |= _schedule(content[key], _table(key, value))
            else:
                content[key] = _value(Recipe, key, value)
        if isinstance(start, str):
            content["start"] = None if start == "none" else self._content(start, layers(start))
            start, layer = {}, content
        if content["start"]:
            shared = {key: layer[key] for key in SHARED if key in layer}
            self._lay(content["start"], {**shared, **_table("start", start)})
        elif start:
            raise UserError(
                f"{content['name']} starts from fresh weights.",
                'Say first which recipe to start from: start = "softmax".',
            )
        if self.scale in at:
            self._lay(content, _table(f"at.{self.scale}", at[self.scale]))

    def _lay_sizes(self, content: Content, layer: Content) -> None:
        """Put what the scale says in the place of a length, a model to replace, and no width."""
        if "length" in layer:
            length = _check_name("length", layer.pop("length"), self.sizes.epochs)
            content["schedule"] |= self.sizes.schedule_of(length, self.data)
        replaced = _table("in_place_of", layer.pop("in_place_of", {})).get(
            str(content.get("model"))
        )
        if replaced:
            layer.setdefault("model", replaced)
        if "model" in layer:
            model = _check_name("model", layer["model"], MODELS)
            layer.setdefault("width", self.sizes.width_of(model, self.data))

    def _complete(self, content: Content) -> Recipe:
        """The recipe with every default written out, so that its id changes when one does."""
        loss = LOSSES.read(content["loss"])
        defense = self._defense(content["defense"])
        training = content["adversarial_training"]
        if training and defense.makes_adversarial_images:
            raise UserError(
                f"{defense.name} trains on adversarial images already.",
                "Leave adversarial training out: its budget would be spent twice.",
            )
        recipe = _validated(
            Recipe,
            content["name"],
            {
                "members": defense.members,
                **content,
                "loss": loss.dump(),
                "defense": defense.dump(),
                "adversarial_training": self._mixing(training) if training else None,
                "start": self._complete(content["start"]) if content["start"] else None,
            },
        )
        _check_loss(recipe, loss)
        return recipe.changed(feature_layers=tuple(sorted(set(recipe.feature_layers))))

    def _defense(self, given: Content) -> Defense:
        """The defence; the sizes of its attack's steps follow from their number."""
        member = DEFENSES[given["name"]]
        settings = member.settings(self.data, self.sizes.min_max_steps)
        defense = member.complete({**settings, **given})
        if "steps" in given:
            settings = member.settings(self.data, getattr(defense, "steps"))  # noqa: B009
            defense = member.complete({**settings, **given})
        return defense

    def _mixing(self, given: Content) -> AdversarialTraining:
        """Adversarial training with budgets from the paper's interval (Section 6.1)."""
        if "attack" not in given:
            raise UserError(
                "Adversarial training needs an attack.", 'Write adversarial_training = "pgd".'
            )
        low, high = self.data.training_eps
        steps = 1 if given["attack"] == "fgsm" else self.sizes.mixing_steps
        settings = {"low": low, "high": high, "steps": steps, **given}
        training = _validated(AdversarialTraining, "adversarial_training", settings)
        if "relative_step_size" not in given and given["attack"] != "fgsm":
            # Table 2's eps/4 for 10 steps, so that fewer steps can go as far.
            training = training.changed(relative_step_size=2.5 / training.steps)
        if training.low > training.high:
            raise UserError(
                f"adversarial_training: low {training.low:g} is above high {training.high:g}.",
                "Budgets are drawn from between them: exchange the two.",
            )
        training_attack(training.attack, training.steps, training.relative_step_size)
        return training


def _member(field: str, current: Content | None, value: Any) -> Content | None:
    """A member of a family and its parameters, given as a table or as its name alone."""
    if value is None or (value == "none" and field == "adversarial_training"):
        return None
    key = MEMBERS[field]
    given = {key: value} if isinstance(value, str) else _table(field, value)
    if field == "adversarial_training":
        for name in given:
            _check_name("field of adversarial_training", name, AdversarialTraining.model_fields)
    if current is None or given.get(key, current.get(key)) != current.get(key):
        return given  # another member starts from its own defaults
    return {**current, **given}


def _schedule(current: Content, given: Content) -> Content:
    """What changes in a schedule; the learning rate drops in proportion to the epochs."""
    for key in given:
        _check_name("field of a schedule", key, Schedule.model_fields)
    changes = {key: _value(Schedule, key, value) for key, value in given.items()}
    if "epochs" in changes and "milestones" not in changes:
        schedule = _validated(Schedule, "schedule", {**current, **changes})
        changes["milestones"] = [
            max(1, round(milestone * schedule.epochs / current["epochs"]))
            for milestone in schedule.milestones
        ]
    return changes


def _value(form: type[Description], key: str, value: Any) -> Any:
    """A field's value; a list may be text ("3,4"), and "none" may stand for nothing."""
    annotation = form.model_fields[key].annotation
    if value == "none" and type(None) in get_args(annotation):
        return None
    if get_origin(annotation) is tuple:
        if isinstance(value, str):
            return [part for part in value.strip(" []()").split(",") if part.strip()]
        return value if isinstance(value, list | tuple) else [value]
    return value


def _table(key: str, value: Any) -> Content:
    if not isinstance(value, Mapping):
        cause = f"{key} is not a table: {shortened(repr(value))}."
        raise UserError(cause, f'Write {key} = {{ key = "value" }}.')
    return dict(value)


def _check_name(kind: str, name: Any, known: Iterable[str]) -> Any:
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, str(name), known)
    return name


def _validated(form: type[D], what: str, content: Content) -> D:
    try:
        return form.model_validate(content)
    except ValidationError as error:
        raise explained(error, what, "For an example: pclbench recipes show ours-pgd.") from error


def _check_loss(recipe: Recipe, loss: LossConfiguration) -> None:
    """Check that a recipe has layers and a way to decide a class that its loss trains.

    Raises:
        UserError: it has not.
    """
    plain = loss.name == CROSS_ENTROPY
    if plain and recipe.feature_layers:
        raise UserError(
            f"{recipe.name}: plain cross-entropy does not act on layers.",
            "Leave the layers out, or take a loss that acts on them: pcl.",
        )
    if not plain and not recipe.feature_layers:
        raise UserError(
            f"{recipe.name}: the loss {loss.name} acts on no layer.",
            "Say on which layers: feature_layers = [3, 4, 5].",
        )
    if recipe.inference == "nearest" and not loss.has_anchors:
        raise UserError(
            f"{recipe.name}: {loss.name} gives the classes no points for features to be near to.",
            "Classify by softmax, or train with pcl, center, contrastive or triplet.",
        )
    if recipe.inference == "softmax" and not loss.with_cross_entropy:
        raise UserError(
            f"{recipe.name}: a network trained with {loss.name} has no final layer.",
            "Let the nearest class mean decide: inference = nearest.",
        )
