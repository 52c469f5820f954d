"""What shrinks at each scale. ``paper`` is as published; the others say in footnotes what they cut.

=======  ==========================================  =================================
scale    for                                         training images, attacked images
=======  ==========================================  =================================
paper    an accelerator, days                        all, all
quick    two processor cores, minutes, real data     10,000, 500
demo     two processor cores, seconds, digits        2,000, 200
=======  ==========================================  =================================
"""

from __future__ import annotations

from dataclasses import dataclass, field

from robustbench_pcl.specs.base import Part, Scalar
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Schedule


@dataclass(frozen=True)
class Sizes:
    """The sizes of one scale.

    Attributes:
        width: factor on conv6's channel counts; residual networks get fewer blocks instead.
        source_width: factor on VGG-19's channel counts.
        residual: which residual network stands for ResNet-110.
        train_images: training images used; all if None.
        attacked_images: test images attacked, the first ones; all if None.
        first: epochs of cross-entropy (T') for grey and for colour images.
        joint: epochs of the joint loss, for grey and for colour images.
        metric: epochs of a loss on pairs or triplets alone, for grey and for colour images.
        source: epochs of VGG-19.
        schedule: what all trainings share; its epochs are a placeholder.
        pgd_steps: steps of PGD in adversarial training, for Algorithm 1 and for min-max.
        attacks: parameters of attacks that differ from Table 2, by attack.
    """

    width: float
    source_width: float
    residual: str
    train_images: int | None
    attacked_images: int | None
    first: tuple[int, int]
    joint: tuple[int, int]
    metric: tuple[int, int]
    source: int
    schedule: Schedule
    pgd_steps: tuple[int, int]
    attacks: dict[str, dict[str, Scalar]] = field(default_factory=dict)


SIZES: dict[Scale, Sizes] = {
    "paper": Sizes(
        width=1.0,
        source_width=1.0,
        residual="resnet110",
        train_images=None,
        attacked_images=None,
        first=(50, 200),
        joint=(300, 300),
        metric=(400, 400),
        source=200,
        schedule=Schedule(epochs=1),
        pgd_steps=(10, 7),
    ),
    "quick": Sizes(
        width=0.5,
        source_width=0.25,
        residual="resnet20",
        train_images=10_000,
        attacked_images=500,
        first=(8, 16),
        joint=(8, 12),
        metric=(12, 20),
        source=10,
        schedule=Schedule(epochs=1, batch_size=128, learning_rate=0.05),
        pgd_steps=(3, 3),
        attacks={"cw": {"steps": 100, "learning_rate": 0.05}},
    ),
    "demo": Sizes(
        width=0.25,
        source_width=0.125,
        residual="resnet20",
        train_images=2_000,
        attacked_images=200,
        first=(12, 4),
        joint=(12, 4),
        metric=(20, 6),
        source=8,
        # Mixed takes 1.1 times as long here, where casting costs more than it saves; at quick
        # scale it takes 0.66 times as long (one core of a Zen 5).
        schedule=Schedule(epochs=1, batch_size=64, learning_rate=0.05, precision="float32"),
        pgd_steps=(3, 3),
        attacks={"cw": {"steps": 50, "learning_rate": 0.1}},
    ),
}


def at_scale(attack: Part, scale: Scale) -> Part:
    """An attack with the parameters that its scale changes, unless they are given already."""
    return Part(
        name=attack.name,
        parameters={**SIZES[scale].attacks.get(attack.name, {}), **attack.parameters},
    )
