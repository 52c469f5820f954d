"""The classifiers: shapes, Table 1's facts, feature layers, weights."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.models import MODELS
from robustbench_pcl.models.classifier import (
    Classifier,
    Normalise,
    build_classifier,
    scaled,
)

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
NARROW = 0.125

TABLE_1 = {
    # model: (image, feature layer -> dimension)
    "conv6": (GREY, {3: 128, 4: 512, 5: 64}),
    "resnet20": (COLOUR, {3: 512, 4: 256, 5: 1024}),
    "resnet110": (COLOUR, {3: 512, 4: 256, 5: 1024}),
    "resnet164": (COLOUR, {3: 512, 4: 256, 5: 1024}),
}


def some_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


def small(name: str, **options: object) -> Classifier:
    return build_classifier(name, COLOUR, 7, width=NARROW, **options).eval()


def modules_of(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


# Every model


@pytest.mark.parametrize("name", list(MODELS))
def test_logits_on_images_of_every_shape_that_a_data_set_has(name):
    for shape in {dataset_spec(dataset).shape for dataset in DATASETS}:
        model = build_classifier(name, shape, 9, width=NARROW)
        images = some_images(2, shape)
        for mode in (True, False):
            logits = model.train(mode)(images)
            assert logits.shape == (2, 9)
            assert logits.isfinite().all()
        assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize("name", list(MODELS))
def test_features_come_from_the_pass_that_gives_the_logits(name):
    count = len(small(name).layers)
    model = small(name, feature_layers=range(1, count + 1))
    images = some_images(3, COLOUR)
    passes = []
    model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        logits, features = model.features(images)
        assert len(passes) == 1
        assert torch.equal(logits, model(images))
    assert list(features) == list(range(1, count + 1))
    for values in features.values():
        assert values.ndim == 2
        assert len(values) == 3


@pytest.mark.parametrize("name", list(MODELS))
def test_features_are_the_layer_s_output_through_its_branch(name):
    """Recorded by hooks on the layers, not by the code that collects the features."""
    wanted = (2, 4, 5)
    model, seen = small(name, feature_layers=wanted), {}
    for number in wanted:
        model.layers[number - 1].register_forward_hook(
            lambda module, given, output, number=number: seen.update({number: output})
        )
    with torch.no_grad():
        _, features = model.features(some_images(2, COLOUR))
        for number in wanted:
            expected = seen[number]
            if expected.ndim == 4:
                expected = expected.mean(dim=(2, 3))
            branch = model.branches[str(number)]
            expected = branch[1](expected) if isinstance(branch, nn.Sequential) else expected
            assert torch.allclose(features[number], expected, atol=1e-6)


@pytest.mark.parametrize("name", list(MODELS))
def test_normalisation_is_inside(name):
    """Shifting the pixels and the mean, or stretching both, changes nothing."""
    images = some_images(2, COLOUR).double() / 2
    plain = small(name, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4]).double()
    moved = small(name, mean=[0.6, 0.7, 0.8], std=[0.2, 0.3, 0.4]).double()
    wider = small(name, mean=[0.8, 1.0, 1.2], std=[0.4, 0.6, 0.8]).double()
    with torch.no_grad():
        expected = plain(images)
        assert torch.allclose(moved(images + 0.2), expected, atol=1e-5)
        assert torch.allclose(wider(images * 2), expected, atol=1e-5)
        assert not torch.allclose(moved(images), expected, atol=1e-3)


def test_normalise():
    images = torch.tensor([[[[0.5]], [[0.25]]]])
    found = Normalise([0.25, 0.25], [0.5, 0.125])(images)
    assert found.flatten().tolist() == [0.5, 0.0]


@pytest.mark.parametrize("name", list(MODELS))
def test_the_seed_decides_the_weights_and_nothing_else_is_drawn(name):
    state = torch.random.get_rng_state()
    one = small(name, seed=3, feature_layers=(3,)).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    again, other = (
        small(name, seed=3, feature_layers=(3,)).state_dict(),
        small(name, seed=4).state_dict(),
    )
    assert all(torch.equal(one[key], again[key]) for key in one)
    weights = [key for key, value in one.items() if value.ndim > 1 and value.std() > 0]
    assert not any(torch.equal(one[key], other[key]) for key in weights if key in other)


@pytest.mark.parametrize("name", list(MODELS))
def test_feature_layers_do_not_change_the_trunk(name):
    """So what starts from a checkpoint without them has the weights it would have had."""
    plain, branched = small(name).state_dict(), small(name, feature_layers=(3, 4, 5)).state_dict()
    assert plain.keys() <= branched.keys()
    assert all(torch.equal(plain[key], branched[key]) for key in plain)
    assert not any(key.startswith("branches") for key in plain)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_the_accelerator_s_random_state_is_untouched():
    state = torch.cuda.get_rng_state()
    small("conv6", seed=3)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_seeding_leaves_the_accelerators_alone(monkeypatch):
    """torch.manual_seed would seed all of them, and only the CPU's state is put back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded"))
    small("conv6", seed=3)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_layer_that_the_model_does_not_have_is_refused(name):
    for number in (0, -1, 9):
        with pytest.raises(UserError) as caught:
            small(name, feature_layers=(3, number))
        assert caught.value.cause == f"This model has no layer {number}."
        assert "1 to 5" in caught.value.cure


def test_naming_the_models_imports_no_torch():
    program = (
        "import sys; from robustbench_pcl.models import MODELS; "
        "assert 'conv6' in MODELS; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_model():
    with pytest.raises(UserError, match="Did you mean resnet110"):
        build_classifier("resnet-110", COLOUR, 10)


@pytest.mark.parametrize("name", list(MODELS))
def test_the_signal_keeps_its_size(name):
    """He initialisation: logits of fresh weights neither vanish nor explode."""
    model = build_classifier(name, COLOUR, 10, width=0.25).train()
    with torch.no_grad():
        spread = model(some_images(16, COLOUR)).std()
    assert 0.01 < spread < 100
    unit = [
        module.weight.flatten() * (module.weight[0].numel() / 2) ** 0.5
        for module in modules_of(model, nn.Conv2d)
    ]
    assert torch.cat(unit).std().item() == pytest.approx(1, rel=0.05)
    for module in modules_of(model, nn.Conv2d) + modules_of(model, nn.Linear):
        assert module.bias is None or not module.bias.any()


def test_scaled_has_a_floor():
    assert [scaled(64, width) for width in (1.0, 0.5, 0.125, 0.01)] == [64, 32, 8, 4]


@pytest.mark.parametrize("name", list(MODELS))
def test_every_parameter_learns(name):
    model = small(name, feature_layers=(3, 4, 5)).train()
    logits, features = model.features(some_images(4, COLOUR))
    total = logits.square().sum() + sum(value.square().sum() for value in features.values())
    total.backward()
    assert all(value.grad is not None for value in model.parameters())


# Table 1


@pytest.mark.parametrize("name", TABLE_1)
def test_dimensions_of_the_features(name):
    shape, dimensions = TABLE_1[name]
    model = build_classifier(name, shape, 10, feature_layers=tuple(dimensions)).eval()
    with torch.no_grad():
        _, features = model.features(some_images(1, shape))
    assert {layer: values.shape[1] for layer, values in features.items()} == dimensions


def test_conv6_is_table_1_s_left_column():
    model = build_classifier("conv6", GREY, 10)
    convolutions = modules_of(model, nn.Conv2d)
    assert [module.out_channels for module in convolutions] == [32, 32, 64, 64, 128, 128]
    assert {module.kernel_size for module in convolutions} == {(5, 5)}
    assert len(modules_of(model, nn.PReLU)) == 6
    assert [module.out_features for module in modules_of(model, nn.Linear)] == [512, 64, 10]
    assert len(model.layers) == 5
    assert not modules_of(model, nn.BatchNorm2d)


BLOCKS = {"resnet20": 2, "resnet110": 12, "resnet164": 18}


@pytest.mark.parametrize("name", BLOCKS)
def test_residual_networks_are_table_1_s_right_column(name):
    """A depth of 9 n + 2 for n blocks a stage, as He et al. count.

    Three stages of n blocks with three convolutions each, the stem's convolution, and the
    classifying layer; 1x1 convolutions in shortcuts are not counted. FC(1024), Table 1's addition
    to their network, is one more. Table 1's n = 12 gives 110; n = 18 gives 164.
    """
    model = build_classifier(name, COLOUR, 100, feature_layers=(3, 4, 5))
    for stage, planes in zip((1, 2, 3), (16, 32, 64), strict=True):
        blocks = model.layers[stage] if stage < 3 else model.layers[stage][0]
        assert len(blocks) == BLOCKS[name]
        for block in blocks:
            kinds = [
                (conv.out_channels, conv.kernel_size)
                for conv in (block.conv1, block.conv2, block.conv3)
            ]
            assert kinds == [(planes, (1, 1)), (planes, (3, 3)), (4 * planes, (1, 1))]
    shortcuts = [block for key, block in model.named_modules() if key.endswith("downsample")]
    assert len(shortcuts) == 3
    counted = len(modules_of(model, nn.Conv2d)) - len(shortcuts) + 1
    assert counted == 9 * BLOCKS[name] + 2 == int(name.removeprefix("resnet"))
    stem = modules_of(model.layers[0], nn.Conv2d)
    assert [(conv.out_channels, conv.kernel_size) for conv in stem] == [(16, (3, 3))]
    assert (model.layers[4].out_features, model.head.out_features) == (1024, 100)
    assert model.branches["3"][1].out_features == 512
    assert len(modules_of(model.layers[0], nn.MaxPool2d)) == (name != "resnet164")


def test_vgg19_has_nineteen_layers_in_the_published_widths():
    """Configuration E: 16 convolutions; of its three linear layers, one is left for 32x32."""
    model = build_classifier("vgg19", COLOUR, 10)
    widths = [module.out_channels for module in modules_of(model, nn.Conv2d)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert len(modules_of(model, nn.Linear)) == 1


@pytest.mark.parametrize("name", list(MODELS))
def test_width_scales_the_channels(name):
    def size(width: float) -> int:
        model = build_classifier(name, COLOUR, 10, width=width)
        return sum(value.numel() for value in model.parameters())

    assert size(0.125) < size(0.25) < size(0.5)


# The table of layers


@pytest.mark.parametrize("name", list(TABLE_1))
def test_a_penultimate_layer_of_two_neurons(name):
    images = some_images(3, COLOUR)
    model = small(name, feature_layers=(5,), embedding=2)
    logits, features = model.features(images)
    assert features[5].shape == (3, 2)
    assert torch.equal(model.head(features[5]), logits)
    assert logits.shape == (3, 7)
    whole = small(name, feature_layers=(5,))
    assert [type(layer) for layer in model.layers] == [type(layer) for layer in whole.layers]


def test_a_model_without_a_penultimate_layer_cannot_be_narrowed():
    with pytest.raises(UserError, match="no fully connected layer"):
        small("vgg19", embedding=2)


PLAIN = """
import torch
from torch import nn
from robustbench_pcl.models.classifier import Architecture


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)


def plain(channels, classes, width):
    return Net()




def fresh(channels, classes, width):
    made = Architecture((nn.Conv2d(channels, 4, 3),), nn.Linear(4, classes))
    nn.init.zeros_(made.head.weight)
    return made


def trained(channels, classes, width):
    made = Architecture((nn.Conv2d(channels, 4, 3),), nn.Linear(4, classes))
    made.head.weight.data = torch.arange(4.0 * classes).view(classes, 4)
    return made
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A plugin's models by the names of their functions."""
    (tmp_path / "my_models.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(MODELS, "members", dict(MODELS.members))
    for name in ("Net", "plain", "fresh", "trained"):
        MODELS.add(name.lower(), f"my_models:{name}")
    yield
    sys.modules.pop("my_models", None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net", "The model net is no function (channels, classes, width) that returns an Arch"),
        ("plain", "The model plain is no function (channels, classes, width) that returns an A"),
        ("trained", "The model trained brings its own weights, and a recipe draws new weights"),
    ],
)
def test_a_plugins_model_that_a_recipe_cannot_train_is_refused(plugin, name, words):
    with pytest.raises(UserError) as raised:
        build_classifier(name, COLOUR, 7)
    assert words in raised.value.cause
    assert "pclbench attack FILE.py:" in raised.value.cure


def test_a_plugins_model_with_fresh_weights_is_not(plugin):
    """Also where some of them start as zeros."""
    assert isinstance(build_classifier("fresh", COLOUR, 7), Classifier)
