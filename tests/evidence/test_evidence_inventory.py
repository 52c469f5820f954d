"""What lies in a workspace: kinds, lineage, who is meant, what needs it, what nothing needs."""

import os
import shutil
import time

import pytest
from documents import read_rows
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.cli.store import Kind
from robustbench_pcl.errors import UserError
from robustbench_pcl.evidence.inventory import TITLES, take_stock
from robustbench_pcl.evidence.needs import (
    command_for,
    direct_uses,
    read_age,
    remove_all,
    unneeded,
    uses_of,
)
from robustbench_pcl.pipeline.runs import Run
from robustbench_pcl.store.records import Paths

OLD = time.time() - 3 * 24 * 3600


@pytest.fixture(scope="module")
def stock(evidence_home):
    """What lies in the workspace; to be read only."""
    return take_stock(Paths(evidence_home))


@pytest.fixture
def home(evidence_home, tmp_path):
    """A copy of the workspace, to be changed."""
    for name in ("checkpoints", "results"):
        shutil.copytree(evidence_home / name, tmp_path / name)
    return tmp_path


def names(items):
    return {item.name for item in items}


def counted(items):
    kinds = [item.kind for item in items]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def model(stock, name):
    (found,) = (each for each in stock.of("checkpoint") if each.models[0].recipe.name == name)
    return found


def test_every_artefact_is_there_in_the_order_of_making(stock):
    assert counted(stock.items) == {
        **{"training": 3, "checkpoint": 3, "set": 4, "measurement": 6},
        **{"embedding": 1, "diagnosis": 1, "certificate": 1},
    }
    assert [item.damage for item in stock.items if item.damage] == []
    assert sum(item.size for item in stock.items) == sum(
        path.stat().st_size
        for folder in ("checkpoints", "results")
        for path in (stock.paths.root / folder).rglob("*")
        if path.is_file()
    )


def test_the_command_line_knows_the_same_kinds():
    assert [each.value for each in Kind] == list(TITLES)


def test_what_a_measurement_was_made_from_is_found_up_to_the_start_of_its_training(stock):
    ours, softmax = model(stock, "ours"), model(stock, "softmax")
    clean = [item for item in stock.of("measurement") if item.attack is None]
    for item in clean:
        own = ours if item.models[0].recipe.name == "ours" else softmax
        above = stock.with_all_above([item])
        assert counted(above) == (
            {"training": 2, "checkpoint": 2, "measurement": 1}
            if own is ours  # its training goes on from softmax
            else {"training": 1, "checkpoint": 1, "measurement": 1}
        )
        assert own in above
    (transferred,) = (
        item
        for item in stock.of("measurement")
        if len(item.models) == 2 and item.models[0].key != item.models[1].key
    )
    (images,) = (item for item in stock.above(transferred) if item.kind == "set")
    assert softmax in stock.above(images)
    assert transferred in stock.below(softmax)
    assert transferred in stock.below(images)
    assert stock.absent(transferred) == []


def test_what_is_gone_is_named(home):
    (checkpoint,) = (home / "checkpoints").glob("*-ours-demo-*")
    shutil.rmtree(Paths(home).adversarial_sets)
    checkpoint.unlink()
    stock = take_stock(Paths(home))
    attacked = [each for each in stock.of("measurement") if each.set_id and len(each.models) == 2]
    for item in attacked:
        assert f"adversarial set {item.set_id}" in stock.absent(item)
        assert any("(ours)" in words for words in stock.absent(item))


def test_somebody_is_meant_by_an_id_its_beginning_weights_or_a_file(stock):
    item = model(stock, "ours")
    identity, weights = item.names
    for text in (identity, identity[:8], weights, item.name, item.path.name, str(item.path)):
        assert stock.one(text) is item
    with pytest.raises(UserError, match="may be"):
        stock.one(_shared_beginning(stock))
    with pytest.raises(UserError, match="nothing called"):
        stock.one("no such thing")
    with pytest.raises(UserError, match="nothing called"):
        stock.one("")


def _shared_beginning(stock):
    """A beginning that several ids have: of more than sixteen one digit at least."""
    ids = [name for item in stock.items for name in item.names if name]
    return next(digit for digit in "0123456789abcdef" if sum(i[0] == digit for i in ids) > 1)


DAMAGES = {
    "a truncated record": lambda path: path.write_bytes(path.read_bytes()[:40]),
    "a folder in its place": lambda path: (path.unlink(), path.mkdir()),
    "a pipe in its place": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link that leads out": lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    "a link that leads nowhere": lambda path: (path.unlink(), path.symlink_to("nothing.json")),
    "deep JSON": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_row_and_stops_nothing(home, damage):
    path = min(Paths(home).measurements.iterdir())
    DAMAGES[damage](path)
    stock = take_stock(Paths(home))
    (item,) = (each for each in stock.items if each.path == path)
    assert item.damage or item.kind == "other"
    assert len(stock.items) == 19
    assert len(direct_uses(stock)) > 0
    result = CliRunner().invoke(app, ["store", "show", item.name, "--home", str(home)])
    assert result.exit_code == 0, result.output


def test_a_position_that_report_shows_is_named_by_what_it_rests_on(stock, evidence_home):
    shown = CliRunner().invoke(
        app, ["report", "--table", "3", "--dataset", "digits", "--home", str(evidence_home)]
    )
    assert shown.exit_code == 0
    (clean,) = (
        item
        for item in stock.of("measurement")
        if item.attack is None and item.models[0].recipe.name == "ours"
    )
    uses = [str(use) for use in uses_of(clean, stock)]
    assert "Table 3, digits, demo scale: row Ours, column Clean" in uses
    assert set(uses) <= {str(use) for use in uses_of(model(stock, "ours"), stock)}
    assert f"{100 * clean.about.accuracy:.1f}".replace("100.0", "100") in shown.stdout
    (imported,) = (item for item in stock.of("set") if not item.models)
    assert uses_of(imported, stock) == uses_of(*stock.below(imported), stock)


def test_the_command_of_an_artefact_finds_that_it_is_there(stock):
    """Recipes here are smaller than presets, so that they are called by their files."""
    found = 0
    for item in stock.of("set", "measurement", "diagnosis", "certificate"):
        words = command_for(item, stock).split()[1:]
        imported = item.kind in ("set", "measurement") and item.attack and len(item.models) < 2
        if imported and "imported" in item.attack["name"]:
            assert words == []
            continue
        result = CliRunner().invoke(app, [*words, "--dry-run", "--format", "json"])
        assert result.exit_code == 0, result.output
        states = {each["task"]: each["state"] for each in read_rows(result.stdout, "plan")}
        if item.kind == "set":  # its source is measured on it, too
            states = {title: state for title, state in states.items() if " under " not in title}
        if item.kind == "measurement" and item.attack is None:  # FGSM comes with it
            states = {title: state for title, state in states.items() if "clean" in title}
        assert set(states.values()) == {"done"}, words
        found += 1
    assert found == 3 + 5 + 2


def test_nothing_is_pruned_but_what_nothing_needs(home):
    paths = Paths(home)
    before = take_stock(paths)
    identity, other = model(before, "ours").id, "0" * 12
    made = [
        paths.partial / f"{identity}.safetensors",
        paths.partial / f"{other}.safetensors",
        paths.adversarial_sets / f"{before.of('set')[0].id}.parts" / "part-000000.h5",
        paths.jobs / "old" / "task.log",
        paths.measurements / f".{other}.json.{'0' * 32}.tmp",
        paths.adversarial_sets / f".{other}.h5.{'1' * 32}.tmp",
    ]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234567")
    for path in (*made[3:5], made[3].parent):
        os.utime(path, (OLD, OLD))
    Run.begin(paths.jobs, [], "local", {}, "this process, which is not over")
    over = Run.begin(paths.jobs, [], "local", {})
    over.end()
    reasons = unneeded(take_stock(paths))
    found = {each.option: names(each.items) for each in reasons if each.option}
    always = set().union(*(names(each.items) for each in reasons if not each.option))
    assert always == {
        f"checkpoints/partial/{identity}.safetensors",
        f"results/adversarial_sets/{before.of('set')[0].id}.parts",
        "results/jobs/old",
        f"results/jobs/{over.folder.name}",
        f"results/measurements/.{other}.json.{'0' * 32}.tmp",
    }
    assert found["--partial"] == {f"checkpoints/partial/{other}.safetensors"}
    assert found["--sets"] == names(before.of("set"))
    kept = {each.option: each.items for each in unneeded(take_stock(paths), keep_tables=True)}
    assert len(kept["--sets"]) < len(before.of("set"))
    remove_all([item for each in reasons for item in each.items])
    after = take_stock(paths)
    left = {f"results/adversarial_sets/.{other}.h5.{'1' * 32}.tmp"}  # somebody may write it
    left |= {item.name for item in after.of("job")}
    assert len(left) == 2
    assert names(after.items) == names(before.items) - names(before.of("set")) | left


def test_a_set_that_was_not_measured_or_whose_features_are_drawn_is_kept(home):
    stock = take_stock(Paths(home))
    first = stock.of("set")[0]
    for item in stock.below(first):
        item.path.unlink()
    (sets,) = (each for each in unneeded(take_stock(Paths(home))) if each.option == "--sets")
    assert first.name not in names(sets.items)


def test_ages_are_read():
    assert [read_age(text) for text in ("90m", "12h", "30d", "2 w")] == [
        5400,
        43200,
        30 * 86400,
        14 * 86400,
    ]
    for text in ("", "30", "d", "-1d", "1y", "1e9d", "99999999d"):
        with pytest.raises(UserError, match="no age"):
            read_age(text)
