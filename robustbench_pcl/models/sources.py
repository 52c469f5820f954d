"""What makes an external model: a class or function in a user's file, or one of torchvision's."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

import torch
import torchvision
from torch import Tensor, nn

from robustbench_pcl.configuration import digest
from robustbench_pcl.errors import UserError, in_one_line, unknown_name
from robustbench_pcl.recipe import TORCHVISION

_PACKAGE = Path(__file__).parents[1]
_STANDARD = sysconfig.get_path("stdlib")
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


class Source(ABC):
    """What makes a model.

    Attributes:
        name: as it is stored: "my_model.py:Net", "torchvision:resnet18".
        folder: that its files are in.
        files: its code, by names relative to the folder; complete once a model was made.
    """

    name: str
    folder: Path
    files: tuple[str, ...]

    @abstractmethod
    def make(self, tensors: Mapping[str, Tensor] | None, seed: int) -> nn.Module:
        """The model with whatever weights its code gives it.

        Args:
            tensors: those that it will be given; None if none are.
            seed: of weights that it draws; the process's random state is left as it was.

        Raises:
            UserError: it cannot be made.
        """

    @property
    def code(self) -> str:
        """Digest of its files."""
        return code_digest(self.folder, self.files)


def code_digest(folder: Path, files: Iterable[str]) -> str:
    """The digest of some files of a folder, by name; one that is not there counts as such."""
    paths = {name: folder / name for name in files}
    return digest(
        {
            name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            for name, path in paths.items()
        }
    )


class FileSource(Source):
    """A class or function without arguments in a Python file.

    Args:
        path: the file.
        attribute: what it is called there.
    """

    def __init__(self, path: Path, attribute: str) -> None:
        self.name, self.attribute, self.path = f"{path.name}:{attribute}", attribute, path
        self.folder, self.files = path.resolve().parent, (path.name,)
        self._beside: dict[str, ModuleType] = {}
        self._module: ModuleType | None = None

    def make(self, _tensors: Mapping[str, Tensor] | None, seed: int) -> nn.Module:
        """What the class or function gives."""
        with torch.random.fork_rng(devices=[]), self._imports():
            factory = self._factory()
            try:
                inspect.signature(factory).bind()
            except TypeError as error:
                raise UserError(
                    f"{self.name} takes arguments ({error}).",
                    "Write a function without any that returns the model, and name that: "
                    f"def net(): return {self.attribute}(...)",
                ) from error
            model = _called(factory, self.name, seed)
        if not isinstance(model, nn.Module):
            raise UserError(
                f"{self.name} gives a {type(model).__name__}, not a torch.nn.Module.",
                "Name a class, or a function that returns a model.",
            )
        imported = [module.__file__ for module in self._beside.values()]
        names = [Path(name).resolve() for name in imported if name]
        inside = {
            each.relative_to(self.folder).as_posix()
            for each in names
            if each.is_relative_to(self.folder)
        }
        self.files = (self.path.name, *sorted(inside - {self.path.name}))
        return model

    @contextmanager
    def _imports(self) -> Iterator[None]:
        """For the time being, modules are looked for beside the file, and are this model's alone.

        Two models may each have a ``layers.py`` of their own: what one of them has imported must
        not be what the other gets. Only what is installed is everybody's.
        """
        others = {name: module for name, module in sys.modules.items() if not _installed(module)}
        for name in others:
            del sys.modules[name]
        sys.modules.update(self._beside)
        sys.path.insert(0, str(self.folder))
        try:
            with redirect_stdout(sys.stderr):  # what its code prints is no part of an answer
                yield
        finally:
            sys.path.remove(str(self.folder))
            mine = {name: module for name, module in sys.modules.items() if not _installed(module)}
            self._beside |= mine
            for name in mine:
                del sys.modules[name]
            sys.modules.update(others)

    def _factory(self) -> Callable[[], object]:
        if not self.path.is_file():
            raise UserError(f"There is no file {self.path}.", "Check the path of the model's code.")
        if self._module is None:
            self._module = self._executed()
        found = getattr(self._module, self.attribute, None)
        if found is None:
            known = defined_in(self.path)
            raise unknown_name(f"class or function in {self.path.name}", self.attribute, known)
        if not callable(found) or isinstance(found, nn.Module):
            raise UserError(
                f"{self.name} is a {type(found).__name__}, not a class or function.",
                f"Write a function that returns the model: def net(): return {self.attribute}",
            )
        factory: Callable[[], object] = found
        return factory

    def _executed(self) -> ModuleType:
        """The file's module, which is its own each time."""
        spec = importlib.util.spec_from_file_location(self.path.stem, self.path)
        assert spec is not None  # a .py file has a loader
        assert spec.loader is not None
        module = sys.modules[self.path.stem] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{self.path} cannot be imported: {in_one_line(error)}.",
                f"To see where: python {self.path}",
            ) from error
        return module


def _installed(module: ModuleType) -> bool:
    """Whether a module comes with Python, a package or pclbench, or is the program itself."""
    folders = getattr(module, "__path__", ())  # of a package; one without __init__.py has no file
    file = getattr(module, "__file__", None) or next(iter(folders), None)
    if file is None or module.__name__ == "__main__":
        return True
    path = Path(file)
    packages = {"site-packages", "dist-packages"} & set(path.parts)
    return bool(packages) or path.is_relative_to(_STANDARD) or path.is_relative_to(_PACKAGE)


class TorchvisionSource(Source):
    """A classifier of torchvision's.

    Args:
        model: its name there.

    Raises:
        UserError: there is none of that name.
    """

    def __init__(self, model: str) -> None:
        names = torchvision.models.list_models(module=torchvision.models)
        if model not in names:
            raise unknown_name("model of torchvision's", model, names)
        self.name, self.model = f"{TORCHVISION}{model}", model
        self._builder = torchvision.models.get_model_builder(model)
        file = Path(inspect.getfile(inspect.unwrap(self._builder)))
        self.folder = Path(torchvision.__file__).parent
        self.files = (file.relative_to(self.folder).as_posix(),)

    def make(self, tensors: Mapping[str, Tensor] | None, seed: int) -> nn.Module:
        """It, with as many classes as the weights to come have."""
        if tensors is None:
            raise UserError(
                f"{self.name} has no weights by itself.",
                "Give yours with --weights FILE, or torchvision's with --weights DEFAULT.",
            )
        with torch.device("meta"):  # no numbers are made
            last = list(self._builder(weights=None).state_dict())[-1]  # of the layer of logits
        classes = {"num_classes": len(tensors[last])} if last in tensors else {}
        model = _called(lambda: self._builder(weights=None, **classes), self.name, seed)
        assert isinstance(model, nn.Module)
        return model

    def pretrained(self) -> tuple[dict[str, Tensor], Normalisation]:
        """Its published weights, fetched unless they are cached, and what they expect.

        Raises:
            UserError: they cannot be had.
        """
        weights = torchvision.models.get_model_weights(self.model).DEFAULT
        try:
            tensors = weights.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"The weights of {self.name} could not be fetched: {in_one_line(error)}.",
                f"Fetch {weights.url} where there is a network, and give the file: --weights FILE",
            ) from error
        expected = weights.transforms()
        return tensors, (tuple(expected.mean), tuple(expected.std))


def read_source(text: str) -> Source:
    """The source that a user, or a stored model, names.

    Raises:
        UserError: it has neither form; the message says what to type.
    """
    if text.startswith(TORCHVISION):
        return TorchvisionSource(text.removeprefix(TORCHVISION))
    file, colon, attribute = text.rpartition(":")
    if colon and file.endswith(".py"):
        return FileSource(Path(file), attribute)
    path = Path(text)
    if path.suffix != ".py":
        raise UserError(
            f"{text!r} does not say what makes the model.",
            "Write my_model.py:Net, a file and a class or function, or torchvision:resnet18.",
        )
    names = (defined_in(path) if path.is_file() else []) or ["Net"]
    written = " or ".join(f"{path}:{name}" for name in names)
    raise UserError(
        f"{text} is Python code: say which class or function in it makes the model.",
        f"Write {written}, and --weights FILE.",
    )


def defined_in(path: Path) -> list[str]:
    """The names of a file's own classes and functions; none of its code is run."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    kinds = ast.ClassDef | ast.FunctionDef
    names = [node.name for node in tree.body if isinstance(node, kinds)]
    return [name for name in names if not name.startswith("_")]


def _called(factory: Callable[[], object], name: str, seed: int) -> object:
    """What a factory gives, its random numbers drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return factory()
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            file = name.partition(":")[0].removesuffix(".py")
            raise UserError(
                f"{name} cannot be made: {in_one_line(error)}.",
                f'To see where: python -c "import {file} as m; m.{name.partition(":")[2]}()"',
            ) from error
