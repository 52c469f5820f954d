"""How bundles are made for tests, and records in them that nobody made."""

import numpy as np
import pytest
import torch

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.certificates.radii import certified_radii
from robustbench_pcl.evidence.bundle import write_bundle
from robustbench_pcl.evidence.manifest import Selection
from robustbench_pcl.store.certificates import Certificate, certificate_id
from robustbench_pcl.store.checkpoints import save_state
from robustbench_pcl.store.diagnoses import Check, Competence, Diagnosis, diagnosis_id
from robustbench_pcl.store.embeddings import EmbeddingSpecification, Layout, View, save_embedding
from robustbench_pcl.store.parts import Part, save_part
from robustbench_pcl.store.records import Paths, save_record
from robustbench_pcl.store.rules import wilson

N = 12
EPS = 0.1
ALWAYS = [
    "Where points of embeddings lie, but for their digests.",
    "How trainings went, but for their records' digests: that takes training again.",
    "What attacks leave in diagnoses: pclbench diagnose makes them again.",
]
"""What is never checked."""


def bundle_of(home, folder, **options):
    """Write a bundle of a workspace, by default of all of it; return its digest."""
    whole = {"selection": Selection(), "weights": True, "sets": True, "say": pytest.fail}
    return write_bundle(Paths(home), folder, **{**whole, **options})


def save_judgements(workspace, clean, pgd):
    """A diagnosis, a certificate and an embedding that nobody made, of a measured model."""
    about = {"target": clean.target, "data": clean.data, "n": N, "seconds": 1.5}
    about |= {"environment": clean.environment, "created": clean.created}
    check = Check(
        code="PCL201",
        name="iterative beats single-step",
        passed=True,
        measured={"single": 50.0},
        n=N,
        threshold="0 points",
        sentence="It does.",
    )
    label = attack_label(pgd.attack)
    competence = Competence(attack=pgd.attack, label=label, found=10, n=N, interval=wilson(10, N))
    diagnosis = Diagnosis(
        id=diagnosis_id(clean.target, clean.data.digest, pgd.attack, n=N, seed=0),
        attack=pgd.attack,
        label=label,
        norm="linf",
        eps=EPS,
        seed=0,
        verdict="holds",
        code="PCL101",
        sentence="It holds.",
        clean=clean.correct,
        correct=pgd.correct,
        withstood=pgd.correct,
        interval=wilson(pgd.correct, N),
        checks=(check,),
        competence=(competence,),
        **about,
    )
    test = workspace.dataset("digits").test
    found = certified_radii(
        workspace.model(clean.target.recipe),
        torch.as_tensor(test.images[:N] / 255, dtype=torch.float32),
        torch.as_tensor(test.labels[:N].copy()),
        0.3,
    )
    certificate = Certificate(
        id=certificate_id(clean.target, clean.data.digest, n=N, largest_eps=0.3),
        method="crown",
        largest_eps=0.3,
        certified=tuple(found.certified.tolist()),
        fooling=tuple(0.05 if right else 0.0 for right in clean.withstood()),
        found_by="PGD",
        reason="",
        **about,
    )
    paths = workspace.paths
    save_record(paths.diagnoses, diagnosis.id, diagnosis)
    save_record(paths.certificates, certificate.id, certificate)
    specification = EmbeddingSpecification(
        model=clean.target,
        view=View(layer=5, method="tsne"),
        data=clean.data,
        adversarial_set=None,
        classes=tuple(range(10)),
        n=N,
        seed=0,
    )
    points = np.random.default_rng(0).normal(size=(N, 2)).astype(np.float32)
    layout = Layout(points, np.arange(N) % 10, np.arange(N) % 10)
    save_embedding(paths.embeddings, specification, layout, clean.environment, clean.created)


def save_unfinished(workspace):
    """The state of a training and a part of an adversarial set, as interruptions leave them."""
    paths, rows = workspace.paths, np.arange(3)
    arrays = {"model.weight": np.ones((2, 3), np.float32), "momentum.0": np.zeros(3, np.float32)}
    history = [{"epoch": 1, "loss": 0.5, "seconds": 1.5}]
    save_state(paths.partial / "abcdefabcdef.safetensors", "abcdefabcdef", arrays, history)
    part = Part(
        stage=0,
        indices=rows,
        predictions=rows,
        margins=np.ones(3),
        fooled=rows >= 0,
        better=rows >= 0,
        blind=rows < 0,
        images=np.full((3, 1, 8, 8), 0.5, np.float32),
    )
    save_part(paths.adversarial_sets, "abcdefabcdef", part)


def flip(measurement, image):
    """The measurement with another verdict on one image, and all that follows from it."""
    right = measurement.withstood()
    right[image] = ~right[image]
    correct, own = int(right.sum()), {}
    if measurement.attack is None:
        own = {"correct_8bit": correct}
    return measurement.changed(
        verdicts=np.packbits(right).tobytes().hex(),
        correct=correct,
        interval=wilson(correct, measurement.n),
        **own,
    )
