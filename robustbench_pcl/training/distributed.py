"""Training on several devices: torch's DistributedDataParallel, one process for each device.

Processes are started by ``torchrun``, on one machine or on several, or by :func:`start` on this
one. The first of them (rank 0) does what the command does with one device, and alone writes; the
others train with it what it names (:func:`announce`, :func:`announced`), from the state that it
has. Batches are divided where networks are passed (``models/shares.py``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Self

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from robustbench_pcl.configuration import Description
from robustbench_pcl.data.batches import DeviceSplit, pixels
from robustbench_pcl.environment import processes, said_once
from robustbench_pcl.errors import UserError
from robustbench_pcl.interruption import KEPT, exit_code
from robustbench_pcl.models import shares
from robustbench_pcl.progress import counted
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.training.step import RunState, Update

STARTED = "PCLBENCH_DEVICES_STARTED"
"""In the environment of processes that :func:`start` started, which says why they ended."""
LOST = 3
"""Their exit code where another one ended."""
GRACE_SECONDS = 1.0
"""How long the others have to end by themselves when one has."""
POLL_SECONDS = 0.1
STOP_SECONDS = 20.0
"""How long the first process has to keep its state after Ctrl-C."""
TRIED = 8
"""Images of each share on which it is tried whether a batch can be divided."""
TOLERANCE = 0.02
"""Of a gradient in shares, as a share of its length: rounding is far below, a layer that draws
random numbers, or looks at a whole batch in its own way, far above."""


def started() -> bool:
    """Whether this is one of the processes that torchrun, or :func:`start`, started."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def check(devices: int, name: str, recipes: Iterable[Recipe]) -> None:
    """Refuse, before anything starts, what cannot be trained on so many devices.

    Args:
        devices: how many are asked for.
        name: of the device, as it was asked for.
        recipes: to be trained.

    Raises:
        UserError: it cannot.
    """
    if started() and processes() != devices:
        raise said_once(
            f"--devices is {devices}, and {counted(processes(), 'process')} started.",
            f"Write --devices {processes()}; or leave torchrun out (unset WORLD_SIZE RANK), and "
            "they are started here.",
        )
    if devices > 1 and ":" in name:
        raise said_once(
            f"--device {name} is one device, and --devices asks for {devices}.",
            "Write --device cuda; CUDA_VISIBLE_DEVICES says which of them.",
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", devices))
    there_are = torch.cuda.device_count()
    if on_cuda(name) and here > there_are:
        raise said_once(
            f"{here} devices are asked for on a machine with {counted(there_are, 'GPU')}.",
            f"Write --devices {max(there_are, 1)}, or --device cpu.",
        )
    for recipe in recipes:
        if recipe.schedule.batch_size < devices:
            raise said_once(
                f"{recipe.name} has batches of {counted(recipe.schedule.batch_size, 'image')}, "
                f"fewer than {devices} devices.",
                f"Write --devices {recipe.schedule.batch_size}, or fewer.",
            )


def on_cuda(name: str) -> bool:
    """Whether a device of that name is a CUDA device: "auto" is where there is one."""
    return name.startswith("cuda") or (name == "auto" and torch.cuda.is_available())


def start(devices: int, command: Sequence[str]) -> int:
    """Start a command once for each device of this machine; its exit code.

    Args:
        devices: how many.
        command: that joins the others, see :func:`joined`.

    Raises:
        UserError: a process was killed.
    """
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    threads = max(1, (os.cpu_count() or 1) // devices)
    environment = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        **{name: str(devices) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        STARTED: "1",
    }
    children: list[subprocess.Popen[bytes]] = []
    try:
        for rank in map(str, range(devices)):
            own = {**environment, "RANK": rank, "LOCAL_RANK": rank}
            # Ctrl-C is for this process, which stops the others.
            children.append(
                subprocess.Popen(command, env=own, stdin=subprocess.PIPE, start_new_session=True)
            )
        while any(each.poll() is None for each in children) and not _failed(children):
            time.sleep(POLL_SECONDS)
        if _failed(children):
            time.sleep(GRACE_SECONDS)
        codes = [each.poll() for each in children]
    except KeyboardInterrupt as interrupt:
        for first in children[:1]:  # it keeps what was done, and says so
            first.send_signal(getattr(interrupt, "number", signal.SIGINT))
            with suppress(subprocess.TimeoutExpired):
                first.wait(STOP_SECONDS)
        return exit_code(interrupt)
    finally:
        for each in children:
            each.kill()
            each.communicate()
    return _explained(codes)


def _failed(children: Iterable[subprocess.Popen[bytes]]) -> bool:
    return any(each.poll() for each in children)


def _explained(codes: list[int | None]) -> int:
    """The exit code of processes that ended with these; None for one that had to be stopped.

    Raises:
        UserError: one was killed, so that none has said why.
    """
    said = [code for code in codes if code and code > 0 and code != LOST]
    if said:
        return said[0]
    for rank, code in enumerate(codes):
        if code and code != LOST:
            raise UserError(
                f"Process {rank + 1} of {len(codes)} was killed ({signal.Signals(-code).name}), "
                "and the others were stopped.",
                KEPT,
            )
    if any(codes):
        raise LostError
    return 0


@contextmanager
def joined(devices: int, name: str) -> Iterator[int]:
    """Be one of several processes that train together while this lasts; yields the rank.

    Args:
        devices: how many processes there are.
        name: of the device, as it was asked for.

    Raises:
        UserError: they are not as many, or one of them ended.
    """
    if STARTED in os.environ:
        Thread(target=_end_with_who_started, daemon=True).start()
    cuda = on_cuda(name)
    rank = int(os.environ["RANK"])
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    try:
        distributed.init_process_group("nccl" if cuda else "gloo")
        met = torch.ones((), device="cuda" if cuda else "cpu")
        distributed.all_reduce(met)
        if int(met) != devices or distributed.get_world_size() != devices:
            raise said_once(
                f"--devices is {devices}, and {counted(int(met), 'process')} met.",
                "Start as many with torchrun, or leave torchrun out.",
            )
        yield rank
        if rank == 0:
            _agreed("", met.device)
    except (LostError, RuntimeError) as error:
        lost = _as_lost(error)
        if isinstance(lost, LostError) and (rank > 0 or STARTED in os.environ):
            sys.exit(LOST)  # the first process speaks, or the one that started all
        raise lost from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _end_with_who_started() -> None:
    """Wait until the process that started this one is gone, and end, too."""
    os.read(sys.stdin.fileno(), 1)  # not of its buffer, whose lock would outlive the process
    os._exit(LOST)


class LostError(UserError):
    """Another process of a training ended."""

    def __init__(self) -> None:
        super().__init__("Another process of this training ended, so it was stopped.", KEPT)


def _as_lost(error: Exception) -> Exception:
    """What the network raises where another process ended, as that; anything else as it is."""
    words = str(error).lower()
    network = isinstance(error, distributed.DistError) or "gloo" in words or "connection" in words
    return LostError() if network else error


class Announcement(Description):
    """What all processes are to train.

    Attributes:
        recipe: complete.
        data: digest of the training images that rank 0 has.
    """

    recipe: Recipe
    data: str

    @classmethod
    def received(cls, device: torch.device) -> Self | None:
        """The next one; None if there is no more."""
        text = _agreed("", device)
        return cls.model_validate_json(text) if text else None

    def send(self, device: torch.device) -> None:
        """Tell the other processes, if there are any."""
        if distributed.is_initialized():
            _agreed(self.model_dump_json(), device)


def count() -> int:
    """How many devices train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def together(state: RunState, update: Update, split: DeviceSplit) -> Iterator[None]:
    """Train on all devices while this lasts, from the state of rank 0; nothing if there is one.

    Args:
        state: before the next epoch.
        update: what is done with a batch.
        split: the training images; it is tried on the first few.

    Raises:
        LostError: another process ended.
        UserError: in shares, a batch has another gradient than in one.
    """
    if not distributed.is_initialized():
        yield
        return
    try:
        _spread(state)
        with warnings.catch_warnings():
            # Of convolutions of one pixel, whose strides mean nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view")
            with shares.training(_divided(state, update, split)):
                yield
    except RuntimeError as error:
        raise _as_lost(error) from error


def _divided(state: RunState, update: Update, split: DeviceSplit) -> DistributedDataParallel:
    """The model as it passes batches in shares, having tried that on a few images.

    Raises:
        UserError: in shares, they have another gradient than in one.
    """
    few = slice(TRIED * count() + 1)  # so that shares differ in size
    images, labels = pixels(split.images[few]), split.labels[few]
    model = state.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = _gradients(state, update, images, labels)
    model.load_state_dict(before)
    for name, parameter in model.named_parameters():
        # What the loss does not reach has nothing to average.
        parameter.requires_grad_(whole[name] is not None)
    passing = DistributedDataParallel(shares.Passing(model))
    with shares.training(passing):
        divided = _gradients(state, update, images, labels)
    model.load_state_dict(before)
    _compare(whole, divided)
    return passing


def _gradients(
    state: RunState, update: Update, images: Tensor, labels: Tensor
) -> dict[str, Tensor | None]:
    """Those of all parameters by name, on a batch; None where the loss does not reach."""
    model = state.model
    model.zero_grad(set_to_none=True)
    _, loss = update.forward(model, images, labels, torch.Generator().manual_seed(0))
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return found


def _compare(whole: Mapping[str, Tensor | None], divided: Mapping[str, Tensor | None]) -> None:
    """Check that a batch has the same gradient in shares.

    Raises:
        UserError: it has another.
    """
    squared = {"gradient": 0.0, "difference": 0.0}
    for name, expected in whole.items():
        found = divided[name]
        if expected is not None and found is not None:
            squared["gradient"] += float(expected.double().square().sum())
            squared["difference"] += float((expected.double() - found.double()).square().sum())
    if squared["difference"] > TOLERANCE**2 * squared["gradient"]:
        raise said_once(
            "Divided among devices, a batch has another gradient: a layer draws random numbers "
            "(dropout), or mixes images in its own way.",
            "Train it on one device: leave --devices out.",
        )


def _spread(state: RunState) -> None:
    """Give all processes the state of rank 0."""
    values = state.model.state_dict().values()
    device = next(iter(values)).device
    momentum = [state.momentum.state[each].get("momentum_buffer") for each in state.optimised()]
    known = {"history": state.history, "momentum": [each is not None for each in momentum]}
    known = json.loads(_agreed(json.dumps(known), device))
    state.history = known["history"]
    for value in values:
        _broadcast(value)
    for parameter, has_any in zip(state.optimised(), known["momentum"], strict=True):
        if has_any:
            kept = state.momentum.state[parameter]
            buffer = kept.setdefault("momentum_buffer", torch.empty_like(parameter).detach())
            _broadcast(buffer)


def _broadcast(value: Tensor) -> None:
    """Overwrite a tensor, whatever its layout, with that of rank 0."""
    sent = value.detach().contiguous()
    distributed.broadcast(sent, 0)
    value.detach().copy_(sent)


def _agreed(text: str, device: torch.device) -> str:
    """The text that rank 0 has."""
    content = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
    length = torch.tensor(len(content), device=device)
    distributed.broadcast(length, 0)
    if distributed.get_rank() > 0:
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
    if len(content):
        distributed.broadcast(content, 0)
    return bytes(content.tolist()).decode()
