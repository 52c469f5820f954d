"""An attack is a configuration: one for one set of parameters, checked, named as papers do."""

import subprocess
import sys

import pytest
from attack_toys import BOUNDED, EVERY, SIGN_ATTACKS
from pydantic import Field, ValidationError

import robustbench_pcl.attacks as family
from robustbench_pcl.attacks import ATTACKS, BIM, CW, FGSM, MIM, PGD
from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import digest
from robustbench_pcl.errors import UserError


def test_table_2():
    """Steps, and the size of one as a share of the budget."""
    assert (FGSM().steps, FGSM().relative_step_size) == (1, 1.0)
    assert (BIM().steps, BIM().relative_step_size) == (10, 0.1)
    assert (MIM().steps, MIM().relative_step_size, MIM().momentum) == (10, 0.1, 1.0)
    assert (PGD().steps, PGD().relative_step_size) == (10, 0.25)
    assert (CW().steps, CW().learning_rate) == (1000, 0.01)


SAME = [
    (CW(c=10), CW(c=10.0)),
    (CW(confidence=50), ATTACKS.configure("cw", {"confidence": "50"})),
    (PGD(relative_step_size=1), ATTACKS.configure("pgd", {"relative_step_size": "1.0"})),
    (FGSM(eps="8/255"), FGSM(eps=8 / 255)),
    (BIM(eps=1), BIM(eps=1.0)),
    (MIM(momentum=0), MIM(momentum=0.0)),
    (PGD(loss="margin"), ATTACKS.configure("pgd", {"loss": "margin"})),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=str)
def test_one_attack_is_one_configuration_however_its_numbers_are_written(one, other):
    assert one == other
    assert digest(one.dump()) == digest(other.dump())


@pytest.mark.parametrize("name", EVERY)
def test_what_is_dumped_is_complete_and_read_back(name):
    attack = ATTACKS[name]()
    left_out = {"name", *attack.parameters()} - {*attack.dump()}
    assert all(getattr(attack, key) == attack.parameters()[key][0] for key in left_out)
    assert ATTACKS.read(attack.dump()) == attack
    for parameter, (_, description) in attack.parameters().items():
        assert description, parameter
        with pytest.raises(ValidationError, match="frozen"):
            setattr(attack, parameter, 1)
    assert attack.__doc__


LABELS = [
    (PGD(), "PGD, eps 8/255"),
    (PGD(eps=0.2, steps=100), "PGD-100, eps 0.2"),
    (PGD(eps=0.1, loss="margin"), "PGD on margin, eps 0.1"),
    (PGD(eps=0.3, steps=40, loss="joint"), "PGD-40 on joint, eps 0.3"),
    (PGD(eps=0.3, relative_step_size=0.0001), "PGD, eps 0.3, step 0.0001 eps"),
    (FGSM(eps=0), "FGSM, eps 0"),
    (FGSM(eps=16 / 255), "FGSM, eps 16/255"),
    (BIM(eps=0.035), "BIM, eps 0.035"),
    (MIM(momentum=0.5), "MIM, eps 8/255, momentum 0.5"),
    (CW(), "C&W, c 1"),
    (CW(c=10, steps=100), "C&W, c 10, 100 steps"),
    (CW(c=0.1, confidence=50, search_steps=9), "C&W, c 0.1, confidence 50, 9 search steps"),
    (CW(learning_rate=0.05), "C&W, c 1, learning rate 0.05"),
]


@pytest.mark.parametrize(("attack", "label"), LABELS, ids=str)
def test_a_label_has_every_parameter_that_is_not_the_default(attack, label):
    assert attack.label == attack_label(attack.dump()) == label


CHANGES = {
    "eps": 0.2,
    "c": 7.0,
    "steps": 3,
    "relative_step_size": 0.3,
    "loss": "margin",
    "momentum": 0.7,
    "learning_rate": 0.3,
    "confidence": 2.0,
    "search_steps": 2,
    "norm": "l2",
    "restarts": 3,
    "forwards": 2,
    "target_class": "random",
    "logit_scale": 0.1,
    "version": "plus",
    "budget": "quick",
    "margin_targets": 4,
    "schedule": "cosine",
    "rho": 0.5,
    "targets": 5,
    "order": "malt",
    "rank": 2,
    "term": "other",
    "start": 1,
    "alpha_max": 0.2,
    "eta": 1.1,
    "beta": 0.8,
    "p_init": 0.3,
    "overshoot": 0.1,
    "diversity": 0.9,
    "smallest": 0.7,
    "gamma": 0.2,
    "theta": -1.0,
}


@pytest.mark.parametrize("name", EVERY)
def test_attacks_that_differ_have_labels_that_differ(name):
    attack = ATTACKS[name]()
    free = [key for key in attack.parameters() if getattr(attack, key) != CHANGES[key]]
    if attack.norm == "l0":
        free.remove("norm")
    assert len(free) >= len(attack.parameters()) - 1  # one has a norm of its own
    changed = {attack.changed(**{key: CHANGES[key]}).label for key in free}
    assert len(changed - {attack.label}) == len(free)


class Blurred(PGD):
    """From a file of the user's."""

    name: str = "blurred"
    side: int = Field(3, description="of the square")


def test_an_attack_of_a_plugin_has_a_label_whether_it_is_loaded_or_not(monkeypatch):
    dump = Blurred(eps=0.1, side=5, steps=20).dump()
    everything = "blurred-20 on cross-entropy, eps 0.1, step 0.125 eps, side 5"
    assert attack_label(dump) == everything
    monkeypatch.setitem(ATTACKS.members, "blurred", f"{__name__}:Blurred")
    assert attack_label(dump) == "Blurred-20, eps 0.1, side 5"


def test_what_a_dump_does_not_say_is_not_in_its_label():
    assert attack_label({"name": "pgd"}) == "PGD"
    assert attack_label({"name": "pgd", "steps": 40}) == "PGD-40"
    assert attack_label({"name": "cw"}) == "C&W"


REFUSED = [
    *((name, {"steps": steps}) for name in EVERY for steps in (0, "many", 1.5)),
    *((name, {"eps": eps}) for name in BOUNDED for eps in (8, -0.1, float("nan"), True)),
    *((name, {"relative_step_size": size}) for name in SIGN_ATTACKS for size in (0, -0.1)),
    *((name, {"loss": "margins"}) for name in (*SIGN_ATTACKS, "apgd", "apgd-t")),
    *(("cw", {"c": c}) for c in (0, -1.0, float("nan"), float("inf"))),
    ("cw", {"learning_rate": 0.0}),
    ("cw", {"search_steps": -1}),
    ("cw", {"eps": 0.1}),
]


@pytest.mark.parametrize(("name", "parameters"), REFUSED, ids=str)
def test_parameters_that_would_attack_nothing_are_refused(name, parameters):
    with pytest.raises((ValidationError, UserError)):
        ATTACKS[name](**parameters)
    with pytest.raises(UserError):
        ATTACKS.configure(name, parameters)


def test_an_unknown_loss_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"'cross-entropy', 'mifpe', 'margin', .*'feature'"):
        ATTACKS.configure("pgd", {"loss": "margins"})


def test_members_are_importable_by_name():
    classes = {path.rpartition(":")[2]: name for name, path in ATTACKS.members.items()}
    assert set(family.__all__) == {"ATTACKS", *classes}
    assert all(getattr(family, own) is ATTACKS[name] for own, name in classes.items())
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        family.Nothing  # noqa: B018 - the access is the test
    with pytest.raises(ImportError):
        from robustbench_pcl.attacks import pgd_attack  # noqa: F401


MODULES = ["base", "losses", "target", "fast_model", "runner"]


def test_making_an_attack_does_not_import_torch():
    code = (
        "import sys\n"
        f"from robustbench_pcl.attacks import {', '.join(family.__all__)}\n"
        f"from robustbench_pcl.attacks import {', '.join(MODULES)}\n"
        "for name in ATTACKS: ATTACKS.read(ATTACKS.configure(name).dump()).label\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
