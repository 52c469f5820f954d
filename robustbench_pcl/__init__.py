"""pclbench: train a defence, attack it, measure transfer, report from stored evidence.

    from robustbench_pcl import PGD, Workspace, evaluate, load_recipe, results

What a notebook needs stands here; nothing of it is imported before it is used.
"""

from __future__ import annotations

import importlib

from robustbench_pcl.version import __version__

TYPE_CHECKING = False  # typing's own, whose import Ctrl-C would interrupt before we can handle it
if TYPE_CHECKING:
    from typing import Any

    from robustbench_pcl.attacks.auto_pgd import APGD as APGD
    from robustbench_pcl.attacks.auto_pgd import APGDT as APGDT
    from robustbench_pcl.attacks.carlini_wagner import CW as CW
    from robustbench_pcl.attacks.deepfool import DeepFool as DeepFool
    from robustbench_pcl.attacks.diverse_input import DIM as DIM
    from robustbench_pcl.attacks.ensembles import AutoAttack as AutoAttack
    from robustbench_pcl.attacks.ensembles import Strongest as Strongest
    from robustbench_pcl.attacks.fab import FAB as FAB
    from robustbench_pcl.attacks.gradient_descent import BIM as BIM
    from robustbench_pcl.attacks.gradient_descent import FGSM as FGSM
    from robustbench_pcl.attacks.gradient_descent import MIM as MIM
    from robustbench_pcl.attacks.gradient_descent import PGD as PGD
    from robustbench_pcl.attacks.lbfgs import LBFGS as LBFGS
    from robustbench_pcl.attacks.saliency_map import JSMA as JSMA
    from robustbench_pcl.attacks.square import Square as Square
    from robustbench_pcl.attacks.two_phases import A3 as A3
    from robustbench_pcl.attacks.two_phases import MD as MD
    from robustbench_pcl.data.batches import load_images as load_images
    from robustbench_pcl.diagnosis.diagnose import diagnose as diagnose
    from robustbench_pcl.evaluation.evaluate import Evaluation as Evaluation
    from robustbench_pcl.evaluation.evaluate import evaluate as evaluate
    from robustbench_pcl.models.external import load_external as load_external
    from robustbench_pcl.pipeline.workspace import Workspace as Workspace
    from robustbench_pcl.recipes.load import load_attack as load_attack
    from robustbench_pcl.recipes.load import load_recipe as load_recipe
    from robustbench_pcl.report.render import table as table
    from robustbench_pcl.report.results import results as results

_MODULES = {
    "A3": "attacks.two_phases",
    "MD": "attacks.two_phases",
    "AutoAttack": "attacks.ensembles",
    "Strongest": "attacks.ensembles",
    "APGD": "attacks.auto_pgd",
    "APGDT": "attacks.auto_pgd",
    "BIM": "attacks.gradient_descent",
    "CW": "attacks.carlini_wagner",
    "FAB": "attacks.fab",
    "FGSM": "attacks.gradient_descent",
    "MIM": "attacks.gradient_descent",
    "PGD": "attacks.gradient_descent",
    "DeepFool": "attacks.deepfool",
    "DIM": "attacks.diverse_input",
    "JSMA": "attacks.saliency_map",
    "LBFGS": "attacks.lbfgs",
    "Square": "attacks.square",
    "Evaluation": "evaluation.evaluate",
    "Workspace": "pipeline.workspace",
    "diagnose": "diagnosis.diagnose",
    "evaluate": "evaluation.evaluate",
    "load_attack": "recipes.load",
    "load_external": "models.external",
    "load_images": "data.batches",
    "load_recipe": "recipes.load",
    "results": "report.results",
    "table": "report.render",
}

__all__ = [
    "A3",
    "APGD",
    "APGDT",
    "BIM",
    "CW",
    "DIM",
    "FAB",
    "FGSM",
    "JSMA",
    "LBFGS",
    "MD",
    "MIM",
    "PGD",
    "AutoAttack",
    "DeepFool",
    "Evaluation",
    "Square",
    "Strongest",
    "Workspace",
    "__version__",
    "diagnose",
    "evaluate",
    "load_attack",
    "load_external",
    "load_images",
    "load_recipe",
    "results",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
