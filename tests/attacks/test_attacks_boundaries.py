"""The smallest step onto a hyperplane inside [0, 1], beside linear and quadratic programs."""

import numpy as np
import pytest
import torch
from attack_toys import generator, random_images
from scipy.optimize import linprog
from test_attacks_linear import box_distance

from robustbench_pcl.attacks.boundaries import reaches, step_onto

NORMS = ["linf", "l2"]


def some(count=60, pixels=12, seed=1):
    """Points of which every second has half of its pixels at 0 or 1, normals, gaps."""
    points = random_images(count, 1, 3, pixels // 3, seed=seed)
    ends = torch.rand(points.shape, generator=generator(seed)) < 0.5
    ends[::2] = False
    points = torch.where(ends, points.round(), points)
    normals = torch.randn(points.shape, generator=generator(seed + 1), dtype=torch.float64)
    gaps = torch.randn(count, generator=generator(seed + 2), dtype=torch.float64)
    return points, normals, gaps


def by_linear_program(point, normal, gap):
    """The smallest largest change; variables: the step, and a bound of its pixels."""
    pixels = len(point)
    one, bound = np.eye(pixels), np.ones((pixels, 1))
    found = linprog(
        [*np.zeros(pixels), 1],
        A_ub=np.block([[one, -bound], [-one, -bound]]),
        b_ub=np.zeros(2 * pixels),
        A_eq=[[*normal, 0]],
        b_eq=[gap],
        bounds=[*((-value, 1 - value) for value in point), (0, None)],
    )
    return found.fun if found.success else np.inf


def test_in_linf_it_is_the_linear_program_s():
    points, normals, gaps = some()
    gaps = 2 * gaps
    steps = step_onto(points, normals, gaps, "linf")
    there = reaches(steps, normals, gaps)
    assert 30 < there.sum() < 60
    for row in range(60):
        flat = (each[row].flatten().tolist() for each in (points, normals))
        expected = by_linear_program(*flat, gaps[row].item())
        assert (expected < np.inf) == there[row]
        if there[row]:
            assert steps[row].abs().max().item() == pytest.approx(expected, abs=1e-12)


def test_in_l2_it_is_the_quadratic_program_s():
    points, normals, gaps = some()
    steps = step_onto(points, normals, gaps, "l2")
    there = reaches(steps, normals, gaps)
    towards = normals * gaps.sign()[:, None, None, None]
    expected = box_distance(points.flatten(1), towards.flatten(1), gaps.abs())
    assert torch.equal(expected.isfinite(), there)
    found = steps.flatten(1).norm(dim=1)
    assert torch.allclose(found[there], expected[there], rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_it_stays_inside_and_comes_to_the_hyperplane_or_to_a_corner(norm):
    points, normals, gaps = some()
    steps = step_onto(points, normals, 3 * gaps, norm)
    there = reaches(steps, normals, 3 * gaps)
    after = points + steps
    assert after.min() >= -1e-15
    assert after.max() <= 1 + 1e-15
    progress = (steps * normals).flatten(1).sum(dim=1)
    assert torch.allclose(progress[there], 3 * gaps[there], rtol=0, atol=1e-12)
    assert 0 < there.sum() < 60
    corners = (normals * gaps.sign()[:, None, None, None] > 0).double()
    assert torch.allclose(after[~there], corners[~there], rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_does_not_depend_on_the_others(norm):
    points, normals, gaps = some()
    whole = step_onto(points, normals, gaps, norm)
    for rows in (slice(0, 1), slice(7, 20)):
        assert torch.equal(step_onto(points[rows], normals[rows], gaps[rows], norm), whole[rows])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("norm", NORMS)
def test_neither_the_size_of_gradients_nor_the_precision_matters(norm, size, kind):
    """Their squares are no floats any more."""
    points, normals, gaps = some()
    expected = step_onto(points, normals, gaps, norm)
    sized = [(size * each).float() for each in (normals, gaps)]
    found = step_onto(points.to(kind), *sized, norm)
    assert found.dtype == kind
    assert torch.allclose(found.double(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("norm", NORMS)
def test_without_a_normal_or_a_gap_there_is_no_step(norm):
    points, normals, gaps = some()
    normals[0], gaps[1], gaps[2] = 0, 0, torch.nan
    steps = step_onto(points, normals, gaps, norm)
    assert not steps[:3].any()
    assert reaches(steps, normals, gaps)[:3].tolist() == [False, True, False]
    assert steps[3:].isfinite().all()
