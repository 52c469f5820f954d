"""A copy of a data set that the user has: images in folders, or the four classic IDX files.

Images lie at ``<split>/<class>/<id>.png``, perhaps below one common top folder.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from robustbench_pcl.data.archives import Member, assemble_idx, classic_name, members, parse_idx
from robustbench_pcl.data.dataset import SPLITS, Images, Labels, RawDataset, SplitName
from robustbench_pcl.data.datasets import DatasetSpec
from robustbench_pcl.errors import UserError, shortened
from robustbench_pcl.progress import TerminalProgress, tracked

MOST_BYTES = 2**20
"""Of an image, a list of classes, or a header."""
CLASS_LIST = "classes.txt"
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm"}
DECODERS = ("PNG", "JPEG", "BMP", "PPM")
MODES = {1: "L", 3: "RGB"}

# What Pillow raises on damaged images, by format and by kind of damage.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Place:
    """Where an image stands in the layout.

    Attributes:
        top: the folder above the splits, or "".
        split: "train" or "test".
        folder: the class's folder.
        number: the id; images are put in its order.
        name: of the file, to order images whose ids are equal.
    """

    top: str
    split: str
    folder: str
    number: int
    name: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image: its place, its pixels (uint8, C x H x W), and whether it was a JPEG."""

    place: Place
    pixels: Images
    lossy: bool


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
    pictures: list[Picture] = []
    class_list: list[str] | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked here
        count = spec.train_images + spec.test_images
        most = count * math.prod(spec.shape) + MOST_BYTES
        for member in tracked(members(path), f"read {path.name}", count, TerminalProgress()):
            if name := classic_name(member.name):
                _add_once(arrays, name, parse_idx(member.read(most), member.name, most))
            elif place := _place_of(member.name):
                pictures.append(_decode(member, place, spec))
                if len(pictures) > count:
                    raise UserError(
                        f"{path.name} holds more than the {count:,} images of {spec.title}.",
                        "Give the data set as it was published.",
                    )
            elif PurePosixPath(member.name).name == CLASS_LIST:
                class_list = _class_list(spec, member)
    kind = "folder" if path.is_dir() else "archive"
    if arrays:
        return assemble_idx(arrays, f"IDX {kind} {path.resolve().name}")
    return _assemble(spec, pictures, class_list, f"image {kind} {path.resolve().name}")


def _add_once(arrays: dict[str, Images], name: str, array: Images) -> None:
    """Add a classic file; one may lie there twice, packed and not, if both are the same.

    Raises:
        UserError: they differ.
    """
    if not np.array_equal(arrays.setdefault(name, array), array):
        raise UserError(
            f"There are two different files {name}.",
            "Give an archive or folder with one data set in it.",
        )


def _class_list(spec: DatasetSpec, member: Member) -> list[str]:
    names = member.read(MOST_BYTES).decode("utf-8-sig", errors="replace").split("\n")
    classes = [name.strip() for name in names if name.strip()]
    if len(set(classes)) != len(spec.classes) or len(classes) != len(spec.classes):
        raise UserError(
            f"{shortened(member.name, 80)} does not list {len(spec.classes)} different classes.",
            f"Write one class of {spec.title} per line, in label order.",
        )
    return classes


def _place_of(member_name: str) -> Place | None:
    """Where a member stands in the layout, or None if it is no image of it."""
    path = PurePosixPath(member_name)
    if len(path.parts) not in {3, 4} or path.suffix.lower() not in SUFFIXES:
        return None
    split, folder, file = path.parts[-3:]
    if split not in SPLITS:
        return None
    top = path.parts[0] if len(path.parts) == 4 else ""
    digits = re.search(r"\d{1,18}$", path.stem)
    return Place(top, split, folder, int(digits[0]) if digits else 0, file)


def _decode(member: Member, place: Place, spec: DatasetSpec) -> Picture:
    """Decode an image of the data set.

    Raises:
        UserError: damaged, or of another size or mode than the data set's images.
    """
    channels, height, width = spec.shape
    try:
        with Image.open(io.BytesIO(member.read(MOST_BYTES)), formats=DECODERS) as image:
            found = (image.size, image.mode)
            # Nothing is decompressed before its size is known to be the expected one.
            pixels = np.asarray(image) if found == ((width, height), MODES[channels]) else None
            lossy = image.format == "JPEG"
    except UNREADABLE as error:
        cause = f"{shortened(member.name, 80)} is not a readable image."
        raise UserError(cause, "Download it again.") from error
    if pixels is None:
        (found_width, found_height), mode = found
        raise UserError(
            f"{shortened(member.name, 80)} is {found_width}x{found_height} {mode}, but the images "
            f"of {spec.title} are {width}x{height} {MODES[channels]}.",
            "Give the data set in its published size.",
        )
    return Picture(place, pixels.reshape(height, width, channels).transpose(2, 0, 1), lossy)


def _assemble(
    spec: DatasetSpec, pictures: Sequence[Picture], class_list: Sequence[str] | None, source: str
) -> RawDataset:
    """Make a data set of decoded images, in the order of their ids.

    Args:
        spec: which data set it is.
        pictures: all of both splits.
        class_list: folder names in label order, if the archive says.
        source: in words.

    Raises:
        UserError: a split is missing, there are several top folders, or folders are no classes.
    """
    tops = {picture.place.top for picture in pictures}
    if len(tops) > 1:
        raise UserError(
            "There are several folders with train or test images: "
            f"{shortened(', '.join(sorted(tops)), 80)}.",
            "Give an archive with nothing but the data set in it.",
        )
    labels = _class_labels(spec, {picture.place.folder for picture in pictures}, class_list)
    train_images, train_labels = _arrays(pictures, "train", labels)
    test_images, test_labels = _arrays(pictures, "test", labels)
    lossy = any(picture.lossy for picture in pictures)
    return RawDataset(train_images, train_labels, test_images, test_labels, source, lossy)


def _class_labels(
    spec: DatasetSpec, folders: Set[str], class_list: Sequence[str] | None
) -> dict[str, int]:
    """The label of every class folder.

    They follow the archive's own list; else the data set's names, if folders have those; else
    numbers, if all folders are numbers; else the alphabet.

    Raises:
        UserError: a folder is none of the classes.
    """
    if class_list is not None:
        return _look_up(spec, folders, {name: label for label, name in enumerate(class_list)})
    by_name = {_plain(name): label for label, name in enumerate(spec.classes)}
    if any(_plain(folder) in by_name for folder in folders):
        return _look_up(spec, folders, by_name, _plain)
    if all(folder.isdecimal() for folder in folders):
        by_number = {str(label): label for label in range(len(spec.classes))}
        return _look_up(spec, folders, by_number, _without_zeros)
    alphabet = sorted(folders) if len(folders) == len(spec.classes) else []
    return _look_up(spec, folders, {name: label for label, name in enumerate(alphabet)})


def _look_up(
    spec: DatasetSpec,
    folders: Set[str],
    labels: Mapping[str, int],
    spelling: Callable[[str], str] = str,
) -> dict[str, int]:
    if strangers := sorted(folder for folder in folders if spelling(folder) not in labels):
        raise UserError(
            f"The folder {shortened(strangers[0])!r} is no class of {spec.title}.",
            "Add a classes.txt with the names of the class folders, one per line, in label order.",
        )
    return {folder: labels[spelling(folder)] for folder in folders}


def _plain(name: str) -> str:
    """A class's name as a folder may spell it: "T-shirt/top" becomes "t_shirt_top"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _without_zeros(number: str) -> str:
    return number.lstrip("0") or "0"


def _arrays(
    pictures: Sequence[Picture], split: SplitName, labels: Mapping[str, int]
) -> tuple[Images, Labels]:
    def order(picture: Picture) -> tuple[int, int, str]:
        place = picture.place
        return place.number, labels[place.folder], place.name

    chosen = sorted((picture for picture in pictures if picture.place.split == split), key=order)
    if not chosen:
        raise UserError(
            f"There are no {split} images.",
            "Give an archive or folder with train/<class>/<id>.png and test/<class>/<id>.png.",
        )
    images = np.stack([picture.pixels for picture in chosen])
    return images, np.array([labels[picture.place.folder] for picture in chosen], dtype=np.int64)
