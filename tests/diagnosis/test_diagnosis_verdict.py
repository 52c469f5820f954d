"""The rule, on evidence that is made up: which images each attempt leaves is chosen."""

import pytest
import torch

from robustbench_pcl import PGD
from robustbench_pcl.diagnosis.evidence import Evidence, Trial
from robustbench_pcl.diagnosis.verdict import decide, reason, worst_case
from robustbench_pcl.store.diagnoses import Check

N = 200
WEAK, SATURATED, FLAT = "attack too weak", "saturated", "flat or rugged"
CHOSEN = "chosen steps"


def evidence(judged: int, *trials: tuple[str, range], n: int = N) -> Evidence:
    """The judged attack fells images 0 to ``judged``; others fell the images of their ranges."""
    labels = torch.zeros(n, dtype=torch.int64)
    images = torch.zeros(n, 1, 1, 1)
    attack = PGD(eps=0.1)
    made = Evidence(None, images, labels, n, judged=attack, seeds=labels, sources={})
    nothing = [(kind, range(0)) for kind in (WEAK, SATURATED, CHOSEN, FLAT)]
    for number, (kind, felled) in enumerate([(None, range(judged)), *nothing, *trials]):
        right = torch.ones(n, dtype=torch.bool)
        right[list(felled)] = False
        title = f"{kind} {number}" if number else "PGD"
        made.trials[title] = Trial(title, right, n, kind)
    return made


def failed(points_to: str, sentence: str = "why") -> Check:
    return Check(
        code="PCL200",
        name="",
        passed=False,
        points_to=points_to,
        measured={},
        n=1,
        threshold="",
        sentence=sentence,
    )


RULE = {
    "nothing finds more": (evidence(40), "holds"),
    "just under 5 points": (evidence(40, (FLAT, range(40, 49))), "holds"),
    "5 points": (evidence(40, (FLAT, range(40, 50))), FLAT),
    "sane steps find it": (evidence(0, (WEAK, range(100))), WEAK),
    "sane steps find all but 9": (evidence(0, (WEAK, range(91)), (FLAT, range(100))), WEAK),
    "all but 10": (evidence(0, (WEAK, range(90)), (FLAT, range(100))), FLAT),
    "another loss finds it": (evidence(0, (SATURATED, range(100))), SATURATED),
    "half of it": (evidence(0, (SATURATED, range(50)), (FLAT, range(100))), SATURATED),
    "less than half": (evidence(0, (SATURATED, range(49)), (FLAT, range(100))), FLAT),
    "two losses, each less than half": (
        evidence(0, (SATURATED, range(45)), (SATURATED, range(45, 90)), (FLAT, range(90, 100))),
        FLAT,
    ),
    "half of what sane steps leave": (
        evidence(0, (WEAK, range(60)), (SATURATED, range(60, 80)), (FLAT, range(100))),
        SATURATED,
    ),
    "steps that choose their size find it": (evidence(0, (CHOSEN, range(100))), WEAK),
    "such steps and another loss": (
        evidence(0, (CHOSEN, range(100)), (SATURATED, range(50))),
        SATURATED,
    ),
    "such steps find all but 10": (evidence(0, (CHOSEN, range(90)), (FLAT, range(100))), FLAT),
    "search alone": (evidence(0, (FLAT, range(60))), FLAT),
    "what speaks for no reason": (evidence(0, (None, range(60))), FLAT),
    "chance": (evidence(0, (FLAT, range(95, 100)), n=100), "not enough evidence"),
}


@pytest.mark.parametrize("name", RULE)
def test_each_step_of_the_rule(name):
    given, verdict = RULE[name]
    assert decide(given, []).verdict == verdict


def test_the_reason_names_the_attempt_that_found_most():
    given = evidence(0, (FLAT, range(30)), (FLAT, range(70)), (SATURATED, range(20)))
    missed = given.judged.right & ~worst_case(given).right
    verdict, cure = reason(given, missed)
    assert (verdict, cure.title, cure.left) == (FLAT, f"{FLAT} 6", 65.0)
    assert decide(given, []).sentence == (
        f"PGD leaves 100.0 %, everything that was tried 65.0 %; {FLAT} 6 alone 65.0 %."
    )


def test_answers_that_change_decide_alone():
    given = evidence(0, (SATURATED, range(100)))
    assert decide(given, [failed("randomised")]) == ("randomised", "why")


def test_what_could_not_have_been_found_is_no_evidence():
    doubt = [failed("not enough evidence")]
    assert decide(evidence(40), doubt) == ("not enough evidence", "why")
    assert decide(evidence(0, (SATURATED, range(100))), doubt).verdict == SATURATED


@pytest.mark.parametrize(("left", "verdict"), [(9, "holds"), (10, "not enough evidence")])
def test_a_number_below_5_points_cannot_be_5_points_too_high(left, verdict):
    assert decide(evidence(N - left), [failed("not enough evidence")]).verdict == verdict


@pytest.mark.parametrize(
    ("first", "second", "outdone"),
    [(50, 59, False), (50, 60, True), (50, 40, False)],
)
def test_one_attempt_outdoes_another_by_5_points(first, second, outdone):
    one, other = (
        Trial("", torch.arange(N) >= felled, N) for felled in (first, second)
    )  # the second fells all that the first does
    assert one.outdone_by(other) is outdone


def test_5_points_one_way_and_nearly_as_many_the_other_are_chance():
    one, other = torch.ones(N, dtype=torch.bool), torch.ones(N, dtype=torch.bool)
    one[:60], other[45:115] = False, False  # 5 points, from 45 and 55 discordant images
    assert not Trial("", one, N).outdone_by(Trial("", other, N))
