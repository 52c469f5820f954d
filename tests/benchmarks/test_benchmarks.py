"""The benchmark's own arithmetic, on work that takes no time."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main, rows, sections
from benchmarks.attacking import fastest_peer
from benchmarks.interleaved import Comparison, compare
from benchmarks.plain import layouts
from benchmarks.robust import robust
from benchmarks.shortest import Outcome, common_medians
from benchmarks.table import Figure, Row, at_least, at_most, line
from benchmarks.targets import adversarial, standard
from benchmarks.training import losses
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.gradient_descent import PGD
from robustbench_pcl.evaluation.evaluate import evaluate
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.training.build import build_model


def test_a_ratio_is_that_of_the_medians_with_the_spread_of_the_rounds():
    runs = Comparison({"ours": [1.0, 2.0, 4.0], "theirs": [6.0, 8.0, 8.0]}, {})
    assert runs.ratio("theirs", "ours") == Figure(4.0, "x", (2.0, 6.0))
    assert runs.rates("ours", "theirs", 1_000) == "500 images/s / 125 images/s"
    assert runs.fastest == "ours"


def test_ways_are_run_in_turn_after_a_warm_up_whose_results_are_kept():
    calls = []
    ways = {name: lambda name=name: calls.append(name) or name.upper() for name in "ab"}
    runs = compare(ways, 2)
    assert calls == ["a", "b"] * 3
    assert runs.results == {"a": "A", "b": "B"}
    assert [len(seconds) for seconds in runs.seconds.values()] == [2, 2]


@pytest.mark.parametrize(
    ("figure", "goal", "told"),
    [
        (Figure(6.0), at_least(6), ["6.00x", ">= 6x", "met"]),
        (Figure(5.9, "x", (5.0, 7.0)), at_least(6), ["5.90x (5.00 to 7.00)", ">= 6x", "missed"]),
        (Figure(0.3, " points"), at_most(0.3, " points"), ["0.30 points", "<= 0.3 points", "met"]),
        (Figure(2_049, " MiB"), at_most(2_048, " MiB"), ["2,049.00 MiB", "<= 2048 MiB", "missed"]),
        (Figure(1.0), None, ["1.00x", "", ""]),
        ("not measured", at_least(2), ["not measured", ">= 2x", ""]),
    ],
)
def test_a_row_says_whether_its_goal_is_met(figure, goal, told):
    assert Row("work", "other", figure, goal).cells() == ["work", "other", *told, ""]


def test_a_missing_data_set_and_a_missing_peer_are_rows_and_the_rest_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("robustbench_pcl.data.loader.SOURCES", ())
    monkeypatch.setitem(sys.modules, "torchattacks", None)  # as if it were not installed
    images, labels = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)

    def peerless(_workspace: Workspace, _rounds: int) -> Iterator[Row]:
        yield Row("found", "", str(fastest_peer(_model(), images, labels, 0.03)))

    chosen = {
        "losses": partial(losses, "cifar10"),
        "attack": peerless,
        "easy": lambda workspace, rounds: [Row("easy", "", f"{rounds} rounds")],
    }
    missing, peer, easy = (
        line(row.cells()) for row in rows(chosen, Workspace(tmp_path, device="cpu"), 4)
    )
    assert "| losses |  | not measured: CIFAR-10 was not found." in missing
    assert "pclbench data add cifar10 FILE" in missing
    assert "| not measured: torchattacks is not installed. nox -s bench installs it. |" in peer
    assert easy == "| easy |  | 4 rounds |  |  |  |"


def test_the_plain_copy_answers_alike_in_its_own_memory_format():
    images = torch.rand(2, 3, 32, 32)
    networks = layouts(_model())
    with torch.no_grad():
        plain, own = (networks[layout](images) for layout in ("NCHW", "channels last"))
    torch.testing.assert_close(plain, own)
    normalised = networks["NCHW"].classifier.normalise(images)
    assert normalised.is_contiguous()


def test_distances_are_compared_where_all_succeed():
    found = {
        "ours": Outcome(torch.tensor([True, True, False]), torch.tensor([1.0, 2.0, 9.0])),
        "theirs": Outcome(torch.tensor([False, True, True]), torch.tensor([9.0, 3.0, 1.0])),
    }
    assert common_medians(found) == {"ours": 2.0, "theirs": 3.0}
    assert str(found["theirs"]) == "66.7 % fooled, median L2 1.000"


def test_sections_on_an_accelerator_come_on_top():
    few, more = list(sections(False)), list(sections(True))
    assert more[: len(few)] == few
    assert all("accelerator" in title for title in more[len(few) :])


def test_words_that_no_title_has_are_refused_with_the_titles_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--home", str(tmp_path), "--only", "nothing"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "C&W, 1,000 iterations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("exact", "shortcuts"),
    [(True, EXACT), (False, Shortcuts(folded=True, early_stop=True))],
    ids=["exact", "early stop"],
)
def test_shortcuts_of_ones_own_come_to_what_evaluate_says(exact, shortcuts):
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model, attack = _model(), PGD(eps=0.002, steps=2)
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    labels[:3] = (labels[:3] + 1) % 10
    own = robust(model, attack, images, labels, shortcuts)
    assert own.tolist() == evaluate(model, images, labels, attack, exact=exact).robust.tolist()
    assert 0 < own.sum() < 9


@pytest.mark.parametrize("dataset", ["cifar10", "fmnist"])
def test_an_adversarially_trained_target_starts_from_the_standard_one(dataset):
    recipe = adversarial(dataset)
    assert recipe.start == standard(dataset)
    assert recipe.defense["name"] == "madry"
    length = recipe.defense["steps"] * recipe.defense["relative_step_size"]
    assert length == pytest.approx(2.5)


def _model() -> SupervisedModel:
    return build_model(load_recipe("softmax", "cifar10", "demo"))
