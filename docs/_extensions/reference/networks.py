"""Pages of models, layer by layer, and of data sets."""

from __future__ import annotations

from collections.abc import Iterator

from reference import restructured as rst
from reference.members import value
from robustbench_pcl.data.datasets import DATASETS, DatasetSpec
from robustbench_pcl.models import MODELS
from robustbench_pcl.models.classifier import build_classifier
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.report.described import layers_of

SHOWN = ("mnist", "cifar10")
"""Data sets whose images models are shown with: grey and colour."""


def pages() -> dict[str, str]:
    """A page of all models, and one of all data sets."""
    models = [
        rst.page(
            rst.heading(name, 1, f"model-{name}"), rst.first_line(MODELS[name]), *_layers(name)
        )
        for name in MODELS
    ]
    datasets = [(_title(data), *_facts(data)) for data in DATASETS.values()]
    settings = [(_title(data), *_settings(data)) for data in DATASETS.values()]
    return {
        "models": rst.page(
            rst.heading("Models", 0, "models"),
            "Networks from pixels in [0, 1] to logits. Layers have the numbers of Table 1; a loss "
            "on features acts on those of *Features*, here of the recipe ``ours``.",
            *models,
        ),
        "datasets": rst.page(
            rst.heading("Data sets", 0, "datasets"),
            "``pclbench data list`` says which of them are on this machine.",
            rst.table(
                ("Data set", "Images", "Classes", "Training", "Test", "Licence", "Citation"),
                datasets,
            ),
            rst.heading("The paper's settings for each", 1),
            rst.table(
                ("Data set", "eps", "eps of training", "c of C&W", "Model", "Augmentation"),
                settings,
            ),
        ),
    }


def _layers(name: str) -> Iterator[str]:
    for dataset in SHOWN:
        data = DATASETS[dataset]
        feature_layers = load_recipe("ours", dataset).feature_layers
        model = build_classifier(name, data.shape, len(data.classes), feature_layers=feature_layers)
        total = sum(parameter.numel() for parameter in model.parameters())
        rows = [
            (
                str(layer.number),
                rst.plain(layer.modules),
                "x".join(map(str, layer.output)),
                f"{layer.parameters:,}",
                "" if layer.branch is None else f"{layer.branch} → {layer.features}".lstrip(),
            )
            for layer in layers_of(model, data.shape)
        ]
        shape = "x".join(map(str, data.shape))
        yield f"On {data.title} ({shape}): {total:,} parameters."
        yield rst.table(("Layer", "Modules", "Output", "Parameters", "Features"), rows)


def _title(data: DatasetSpec) -> str:
    return f"{data.title} ({rst.code(data.name)})"


def _facts(data: DatasetSpec) -> tuple[str, ...]:
    return (
        "x".join(map(str, data.shape)),
        str(len(data.classes)),
        f"{data.train_images:,}",
        f"{data.test_images:,}",
        rst.plain(data.license),
        rst.plain(data.citation),
    )


def _settings(data: DatasetSpec) -> tuple[str, ...]:
    low, high = map(value, data.training_eps)
    return (
        value(data.eps),
        f"{low} to {high}",
        value(data.carlini_wagner_c),
        rst.link(f"model-{data.model}", data.model),
        ", ".join(data.augmentation) or "none",
    )
