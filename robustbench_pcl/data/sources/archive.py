"""A copy of a data set that the user has: an archive or folder of images or of IDX files."""

from __future__ import annotations

import warnings
from pathlib import Path, PurePosixPath

from PIL import Image

from robustbench_pcl.data.dataset import Images, RawDataset
from robustbench_pcl.data.sources import idx, image_folder
from robustbench_pcl.data.sources.members import Member, members
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import UserError
from robustbench_pcl.progress import TerminalProgress, tracked

CLASS_LIST = "classes.txt"


def read_archive(spec: DatasetSpec, path: Path) -> RawDataset:
    """Read a data set from an archive or folder that may come from anywhere.

    It holds either images, ``<split>/<class>/<id>.png`` and perhaps ``classes.txt`` with the class
    folders in label order, or the four classic IDX files. Other files in it are passed over.

    Args:
        spec: which data set it should be.
        path: zip, tar, gzipped tar, or a folder.

    Raises:
        UserError: not an archive, damaged, too large, or not this data set.
    """
    arrays: dict[str, Images] = {}
    pictures: list[image_folder.Picture] = []
    class_list: list[str] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked here
        count = spec.train_images + spec.test_images
        for member in tracked(members(path), f"read {path.name}", count, TerminalProgress()):
            if name := idx.classic_name(member.name):
                arrays[name] = idx.parse(member.read(), member.name)
            elif place := image_folder.place_of(member.name):
                pictures.append(image_folder.decode(member, place, spec))
            elif PurePosixPath(member.name).name == CLASS_LIST:
                class_list = _class_list(spec, member)
    kind = "folder" if path.is_dir() else "archive"
    if arrays:
        return idx.assemble(arrays, f"IDX {kind} {path.resolve().name}")
    return image_folder.assemble(spec, pictures, class_list, f"image {kind} {path.resolve().name}")


def _class_list(spec: DatasetSpec, member: Member) -> list[str]:
    names = member.read().decode("utf-8-sig", errors="replace").split("\n")
    classes = [name.strip() for name in names if name.strip()]
    if len(set(classes)) != len(spec.classes) or len(classes) != len(spec.classes):
        raise UserError(
            f"{member.name} does not list {len(spec.classes)} different classes.",
            f"Write one class of {spec.title} a line, in label order.",
        )
    return classes
