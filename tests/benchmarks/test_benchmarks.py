"""The benchmark's own arithmetic, on work that takes no time."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import rows, sections
from benchmarks.attacking import fastest_peer
from benchmarks.interleaved import Comparison, compare
from benchmarks.plain import layouts
from benchmarks.shortest import Outcome, common_medians
from benchmarks.table import Figure, Row, at_least, at_most, line
from benchmarks.training import losses
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.training.assemble import build_model, laid_out

CPU = torch.device("cpu")


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
    monkeypatch.setattr("robustbench_pcl.data.loading.SOURCES", ())
    monkeypatch.setitem(sys.modules, "torchattacks", None)  # as if it were not installed
    images, labels = torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)

    def peerless(_bench: Bench, _rounds: int) -> Iterator[Row]:
        yield Row("found", "", str(fastest_peer(_model(), images, labels, 0.03)))

    chosen = {
        "losses": partial(losses, "cifar10"),
        "attack": peerless,
        "easy": lambda bench, rounds: [Row("easy", "", f"{rounds} rounds")],
    }
    missing, peer, easy = (
        line(row.cells()) for row in rows(chosen, Bench(tmp_path, device="cpu"), 4)
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


def _model() -> SupervisedModel:
    return laid_out(build_model(named_recipe("softmax", "cifar10", "demo")), CPU).eval()
