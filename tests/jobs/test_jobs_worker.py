"""Tickets say everything, and a worker process does what they say."""

import json
import subprocess
import sys

import pytest

from robustbench_pcl import plugins
from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs import worker
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.plan import KINDS, Craft, Embed, Measure, Train
from robustbench_pcl.jobs.ticket import Ticket
from robustbench_pcl.recipes.named import named_recipe, recipe_names
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.view import View

PGD = Part(name="pgd", parameters={"eps": 8 / 255, "steps": 3, "loss": "margin"})


def jobs():
    ours, source = (
        named_recipe("ours-pgd", "digits", "demo"),
        named_recipe("vgg19", "cifar10", "paper"),
    )
    return [
        Train(ours),
        Craft(source, PGD),
        Craft(source, PGD, until_fooled=True),
        Measure(ours, source, PGD),
        Measure(ours, ours, PGD, until_fooled=True),
        Measure(ours),
        Embed(ours, View(layer=5, method="tsne", attack=PGD)),
        Embed(ours, View(layer=5, epoch=3)),
    ]


def test_every_kind_of_job_is_among_them():
    assert {job.kind for job in jobs()} == set(KINDS)


@pytest.mark.parametrize("job", jobs(), ids=lambda job: job.title)
def test_a_job_survives_its_ticket(job, tmp_path):
    path = tmp_path / "job.json"
    bench = Bench(
        tmp_path, device="cpu:0", data_root=tmp_path / "data", images=7, seed=3, progress=None
    )
    Ticket.of(job, bench).write(path)
    assert json.loads(path.read_text())["kind"] == job.kind
    read, opened = Ticket.read(path).open()
    assert read == job
    assert read.key == job.key
    assert opened.home == bench.home
    assert opened.device_name == "cpu"
    assert (opened.data_root, opened.images, opened.seed) == (tmp_path / "data", 7, 3)
    assert not opened.exact


def test_an_exact_bench_is_exact_elsewhere(tmp_path):
    ticket = Ticket.of(jobs()[1], Bench(tmp_path, device="cpu", exact=True))
    _, opened = Ticket.model_validate_json(ticket.model_dump_json()).open()
    assert opened.exact


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_survives_its_ticket(name, tmp_path):
    job = Train(named_recipe(name, "digits", "paper", 5))
    ticket = Ticket.of(job, Bench(tmp_path, device="cpu"))
    assert Ticket.model_validate_json(ticket.model_dump_json()).open()[0] == job


def test_an_opened_checkpoint_is_opened_again(tiny, tiny_home, tmp_path):
    stored = Bench(tiny_home, device="cpu").checkpoint(tiny())
    bench = Bench(tmp_path, device="cpu")
    recipe = bench.open(stored.path)
    _, opened = Ticket.of(Measure(recipe), bench).open()
    assert opened.checkpoint(recipe).record.weights == stored.record.weights


def test_keys_tell_artefacts_apart_and_names_do_not_matter(tiny):
    recipe, other = tiny(), tiny("ours")
    keys = [
        job.key
        for job in (
            Train(recipe),
            Train(other),
            Craft(recipe, PGD),
            Craft(other, PGD),
            Craft(recipe, PGD.merged({"steps": 4})),
            Craft(recipe, PGD, until_fooled=True),
            Craft(recipe.model_copy(update={"scale": "quick"}), PGD),
            Measure(recipe),
            Measure(recipe, recipe, PGD),
            Measure(recipe, recipe, PGD, until_fooled=True),
            Measure(other, recipe, PGD),
            Embed(recipe, View(layer=5)),
            Embed(other, View(layer=5)),
            Embed(recipe, View(layer=4)),
            Embed(recipe, View(layer=5, method="tsne")),
            Embed(recipe, View(layer=5, attack=PGD)),
            Embed(recipe, View(layer=5, epoch=0)),
        )
    ]
    assert len(set(keys)) == len(keys)
    renamed = recipe.model_copy(update={"name": "mine"})
    assert Train(renamed).key == Train(recipe).key
    assert Measure(recipe, None, PGD).key == Measure(recipe, recipe, PGD).key


def test_a_worker_process_runs_a_job(tiny, tmp_path):
    job = Train(tiny(schedule=tiny().schedule.model_copy(update={"epochs": 1})))
    bench = Bench(tmp_path / "home", device="cpu", images=8)
    ticket = tmp_path / "job.json"
    Ticket.of(job, bench).write(ticket)
    command = [sys.executable, "-m", "robustbench_pcl.jobs.worker", str(ticket)]
    assert not job.done(bench)
    assert subprocess.run(command, cwd=tmp_path, check=True, timeout=120).returncode == 0
    assert job.done(bench)


PLUGIN = """
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.mim import MIM
ATTACKS.add("mine", "my_attack:Mine")
class Mine(MIM): pass
"""


def test_plugins_travel_with_a_job(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_attack.py").write_text(PLUGIN)
    monkeypatch.setattr(plugins, "_LOADED", {"my_attack": folder})
    softmax = tiny(schedule=tiny().schedule.model_copy(update={"epochs": 1}))
    job = Measure(softmax, softmax, Part(name="mine", parameters={"eps": 0.1}))
    ticket = tmp_path / "job.json"
    Ticket.of(job, Bench(tmp_path / "home", device="cpu", images=8)).write(ticket)
    assert Ticket.read(ticket).plugins == (("my_attack", folder),)
    command = [sys.executable, "-m", "robustbench_pcl.jobs.worker", str(ticket)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    (stored,) = (tmp_path / "home" / "results" / "measurements").glob("*.json")
    assert json.loads(stored.read_text())["attack"]["name"] == "mine"


def test_a_worker_without_a_plugin_says_so(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plugins, "_LOADED", {"gone": tmp_path})
    ticket = tmp_path / "job.json"
    Ticket.of(Train(tiny()), Bench(tmp_path, device="cpu")).write(ticket)
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert worker.main(str(ticket)) == 2
    assert "There is no plugin 'gone'." in capsys.readouterr().err


def test_what_is_stored_is_not_made_again(tiny, tiny_home, tmp_path, monkeypatch):
    ticket = tmp_path / "job.json"
    Ticket.of(Train(tiny()), Bench(tiny_home, device="cpu")).write(ticket)
    monkeypatch.setattr(Train, "run", lambda job, bench: pytest.fail("it was trained again"))
    assert worker.main(str(ticket)) == 0


def test_a_worker_says_what_is_wrong(tiny, tmp_path, capsys):
    ticket = tmp_path / "job.json"
    job = Measure(tiny(), tiny(), Part(name="pgd", parameters={"stepps": 3}))
    Ticket.of(job, Bench(tmp_path, device="cpu")).write(ticket)
    assert worker.main(str(ticket)) == 2
    assert "stepps" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "{}", '{"kind": "train", "job": {}, "home": 3}'])
def test_tickets_that_are_none(content, tmp_path):
    path = tmp_path / "job.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"Cannot read the job"):
        Ticket.read(path)
