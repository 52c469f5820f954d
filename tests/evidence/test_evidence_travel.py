"""Archives and merged workspaces: what comes along, what is refused, that nothing gets mixed."""

import shutil
from pathlib import Path

import pytest
from archives import ALL, QUIET, contents, export, refused

from robustbench_pcl import Workspace
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.inventory import take_stock
from robustbench_pcl.evidence.manifest import Selection
from robustbench_pcl.evidence.travel import chosen, import_archive, merge
from robustbench_pcl.evidence.verify import Verifier
from robustbench_pcl.report.render import render
from robustbench_pcl.report.results import load_evidence, results
from robustbench_pcl.report.table import report_table
from robustbench_pcl.store.checkpoints import load_arrays, open_checkpoint, save_checkpoint
from robustbench_pcl.store.records import Paths, load_measurements, save_measurement
from robustbench_pcl.store.rules import measurement_id


@pytest.fixture(scope="module")
def whole(evidence_home, tmp_path_factory):
    """An archive of all of the workspace; to be read only."""
    return export(evidence_home, tmp_path_factory.mktemp("archives") / "all.tar")


@pytest.fixture
def home(evidence_home, tmp_path):
    """A copy of the workspace, to be changed."""
    for name in ("checkpoints", "results"):
        shutil.copytree(evidence_home / name, tmp_path / "home" / name)
    return tmp_path / "home"


def table(home, number=3):
    return render(report_table(number, load_evidence(Paths(home)), ["digits"]), "text")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_what_was_exported_is_the_same_when_it_is_imported(evidence_home, suffix, tmp_path):
    archive = export(evidence_home, tmp_path / f"all{suffix}")
    taken = import_archive(archive, Paths(tmp_path / "new"), QUIET)
    assert contents(tmp_path / "new") == contents(evidence_home)
    assert (sum(taken.added.values()), taken.known, taken.left_out) == (19, 0, [])
    assert table(tmp_path / "new") == table(evidence_home)
    again = import_archive(archive, Paths(tmp_path / "new"), QUIET)
    assert (sum(again.added.values()), again.known) == (0, 19)
    assert contents(tmp_path / "new") == contents(evidence_home)
    other = export(tmp_path / "new", tmp_path / f"again{suffix}")
    assert other.read_bytes() == archive.read_bytes()


def test_an_imported_workspace_holds_when_it_is_verified(whole, tmp_path):
    import_archive(whole, Paths(tmp_path), QUIET)
    assert Verifier(device="cpu").workspace(tmp_path).findings == []


SELECTIONS = {
    "a model": (Selection(models=("softmax",)), {"softmax"}),
    "a table": (Selection(tables=(3,)), {"softmax", "ours"}),
    "a data set that is not there": (Selection(datasets=("mnist",)), None),
}


@pytest.mark.parametrize("selected", SELECTIONS)
def test_what_is_selected_comes_with_all_that_it_rests_on(selected, evidence_home, tmp_path):
    selection, targets = SELECTIONS[selected]
    if targets is None:
        with pytest.raises(UserError, match="Nothing is stored"):
            export(evidence_home, tmp_path / "some.tar", selection)
        return
    archive = export(evidence_home, tmp_path / "some.tar", selection)
    import_archive(archive, Paths(tmp_path / "new"), QUIET)
    assert set(results(tmp_path / "new")["target"]) == targets
    stock = take_stock(Paths(tmp_path / "new"))
    assert [words for item in stock.items for words in stock.absent(item)] == []


def test_one_artefact_comes_with_its_lineage_and_without_sets_where_asked(evidence_home, tmp_path):
    stock = take_stock(Paths(evidence_home))
    item = next(each for each in stock.of("measurement") if each.set_id and each.models[1:])
    names = {each.name for each in stock.with_all_above([item])}
    import_archive(
        export(evidence_home, tmp_path / "a.zip", ids=[item.id]), Paths(tmp_path / "a"), QUIET
    )
    assert set(contents(tmp_path / "a")) == names
    few = export(evidence_home, tmp_path / "b.zip", ids=[item.id], sets=False)
    import_archive(few, Paths(tmp_path / "b"), QUIET)
    assert set(contents(tmp_path / "b")) == {name for name in names if not name.endswith(".h5")}


def test_what_is_here_with_other_content_is_not_replaced(whole, home):
    attacked = [each for each in load_measurements(Paths(home)) if each.mode == "fast"]
    path = save_measurement(Paths(home), attacked[0].changed(correct_8bit=0))
    refused(whole, home, f"{path.name}: here it says otherwise")
    (Paths(home).measurements / f"{attacked[1].id}.json").unlink()
    before = contents(home)
    taken = import_archive(whole, Paths(home), QUIET, keep_mine=True)
    assert taken.added == {"measurement": 1}
    assert [path.name in words for words in taken.left_out] == [True]
    assert {n: d for n, d in contents(home).items() if n in before} == before


def test_what_is_damaged_here_is_said_to_be(whole, home):
    path = min(Paths(home).adversarial_sets.iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    refused(whole, home, "here it is damaged")


def test_the_same_number_measured_elsewhere_is_no_conflict(whole, home):
    for each in load_measurements(Paths(home)):
        elsewhere = each.environment.changed(device="another processor")
        longer = each.seconds + 1 if each.attack else 0.0
        made = {"created": "2026-01-01T00:00:00+00:00", "seconds": longer}
        save_measurement(Paths(home), each.changed(environment=elsewhere, **made))
    before = contents(home)
    assert import_archive(whole, Paths(home), QUIET).known == 19
    assert contents(home) == before


def test_a_number_is_not_put_beside_other_images(whole, home):
    """A measurement may come without its set; here that id has other pixels."""
    (item,) = (
        each
        for each in take_stock(Paths(home)).of("measurement")
        if each.set_id and len(each.models) == 2 and each.models[0].key != each.models[1].key
    )
    item.path.unlink()
    (images,) = take_stock(Paths(home)).known("set", item.set_id)
    images.path.unlink()
    alone = chosen(take_stock(Paths(home)), ALL)
    assert item.name not in {each.name for each in alone}
    about = item.about
    identity = measurement_id(about.source, set=about.adversarial_set)
    changes = {"id": identity, "target": about.source, "mean_l2": about.mean_l2 / 2}
    save_measurement(Paths(home), about.changed(**changes))
    refused(whole, home, "rests on other images")


def perturbed(home):
    """Other weights of a stored recipe, as another number of threads trains them."""
    (path,) = Paths(home).checkpoints.glob("*-softmax-demo-*")
    checkpoint = open_checkpoint(path)
    arrays = {name: array * 1.03 for name, array in load_arrays(path).items()}
    recipe = checkpoint.record.recipe
    return save_checkpoint(Paths(home).checkpoints, recipe, checkpoint.record.checkpoint, arrays)


@pytest.fixture
def two_homes(evidence_home, tmp_path):
    """Two workspaces in which one recipe has different weights, each measured."""
    shutil.copytree(evidence_home / "checkpoints", tmp_path / "one/checkpoints")
    shutil.copytree(evidence_home / "results", tmp_path / "one/results")
    other = tmp_path / "two"
    shutil.copytree(evidence_home / "checkpoints", other / "checkpoints")
    (first,) = Paths(other).checkpoints.glob("*-softmax-demo-*")
    checkpoint = perturbed(other)
    first.unlink()
    workspace = Workspace(other, device="cpu")
    recipe = workspace.open(checkpoint.path)
    workspace.measure(recipe, images=12)
    workspace.measure(recipe, "pgd", images=12)
    return tmp_path / "one", other


def rows(home):
    frame = results(home)
    return {
        row.id: (row.weights, row.accuracy, row.adversarial_set, row.correct_per_image)
        for row in frame.itertuples()
    }


def test_two_trainings_of_one_recipe_are_two_models_when_their_workspaces_are_merged(two_homes):
    one, two = two_homes
    mine, theirs, untouched = rows(one), rows(two), contents(two)
    taken = merge(Paths(two), Paths(one), QUIET)
    assert taken.added == {"checkpoint": 1, "set": 1, "measurement": 2}
    assert taken.left_out == []
    assert contents(two) == untouched
    assert not mine.keys() & theirs.keys()
    assert rows(one) == {**mine, **theirs}
    stock = take_stock(Paths(one))
    for item in stock.of("measurement"):
        weights, _, images, _ = rows(one)[item.id]
        above = {(each.kind, each.id): each for each in stock.above(item)}
        assert weights in {each.names[1] for each in above.values()}
        if images and item.models[0] in item.models[1:]:  # white-box: on images of its own
            assert above["set", images].models[0].weights == weights
    softmax = [each for each in stock.of("checkpoint") if "-softmax-" in each.name]
    assert len({each.id for each in softmax}) == 1
    assert len({each.names[1] for each in softmax}) == 2
    assert "2 checkpoints of Softmax are stored" in " ".join(table(one).split())
    assert Verifier(device="cpu").workspace(one).findings == []
    again = merge(Paths(two), Paths(one), QUIET)
    assert (sum(again.added.values()), again.known) == (0, len(untouched))


def test_what_is_damaged_or_unfinished_there_is_left_out_with_what_rests_on_it(home, tmp_path):
    images = min(Paths(home).adversarial_sets.iterdir())
    images.write_bytes(images.read_bytes()[:-100])
    (Paths(home).partial).mkdir(parents=True, exist_ok=True)
    (Paths(home).partial / f"{'0' * 12}.safetensors").write_bytes(b"unfinished")
    stock = take_stock(Paths(home))
    (damaged,) = (item for item in stock.items if item.path == images)
    without = {damaged.name, *(item.name for item in stock.below(damaged))}
    taken = merge(Paths(home), Paths(tmp_path / "new"), QUIET)
    unfinished = f"checkpoints/partial/{'0' * 12}.safetensors"
    assert set(contents(tmp_path / "new")) == set(contents(home)) - without - {unfinished}
    assert len(taken.left_out) == 2


def test_a_killed_import_leaves_a_workspace_that_the_next_one_completes(
    whole, evidence_home, tmp_path, killed
):
    program = "import sys; from robustbench_pcl.cli.app import app; app(sys.argv[1:])"
    words = ("store", "import", str(whole), "--home", str(tmp_path / "new"))
    killed(program, Paths(tmp_path / "new").checkpoints, *words)
    left = {name: data for name, data in contents(tmp_path / "new").items() if "/." not in name}
    assert left.items() < contents(evidence_home).items()
    stock = take_stock(Paths(tmp_path / "new"))
    assert [item.damage for item in stock.items if item.damage] == []
    made = [item for item in stock.items if item.kind != "training"]  # these come first
    assert [words for item in made for words in stock.absent(item)] == []
    import_archive(whole, Paths(tmp_path / "new"), QUIET)
    whole_now = {n: d for n, d in contents(tmp_path / "new").items() if "/." not in n}
    assert whole_now == contents(evidence_home)


WRONG = {
    "itself": (lambda home: merge(Paths(home), Paths(home), QUIET), "this workspace itself"),
    "itself by another name": (
        lambda home: merge(Paths(home / "results/.."), Paths(home), QUIET),
        "this workspace itself",
    ),
    "nothing": (lambda home: merge(Paths(home / "none"), Paths(home), QUIET), "no folder"),
    "an empty folder": (
        lambda home: merge(Paths(Path(home.parent)), Paths(home), QUIET),
        "Nothing is stored",
    ),
    "a kind that does not travel": (
        lambda home: chosen(take_stock(Paths(home)), ALL, ["checkpoints/notes.txt"]),
        "no artefact",
    ),
    "an archive of no kind": (lambda home: export(home, home / "x.rar"), "what kind of archive"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_refused(wrong, home):
    (home / "checkpoints/notes.txt").write_text("mine")
    do, cause = WRONG[wrong]
    before = contents(home)
    with pytest.raises(UserError, match=cause):
        do(home)
    assert contents(home) == before
