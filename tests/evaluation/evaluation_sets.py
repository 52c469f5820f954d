"""Reading stored sets, and asking models, without the code under test."""

import h5py
import numpy as np
import torch

from robustbench_pcl.store.adversarial_sets import FIELDS


def stored(found):
    """The arrays of a set by name."""
    with h5py.File(found.path, "r") as file:
        return {name: file[name][:] for name in FIELDS}


def clean_images(workspace, n):
    """The first test images of digits, float32 (n, 1, 8, 8) in [0, 1]."""
    return torch.from_numpy(workspace.dataset("digits").test.images[:n].astype(np.float32) / 255)


def labels_of(workspace, n):
    return np.array(workspace.dataset("digits").test.labels[:n])


def classes(model, images):
    with torch.no_grad():
        return model(torch.as_tensor(images)).argmax(dim=1).numpy()


def verdicts(measurement):
    """The bits that a measurement keeps, boolean (n,)."""
    packed = np.frombuffer(bytes.fromhex(measurement.verdicts), dtype=np.uint8)
    assert len(packed) == -(-measurement.n // 8)
    return np.unpackbits(packed)[: measurement.n].astype(bool)
