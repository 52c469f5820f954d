"""A process that reads one file after another, watched for what it costs and what it opens.

``python worker.py FOLDER`` takes one JSON line for each case from its standard input, and answers
with one: ``{"reader": ..., "seed": ...}`` for chance (an empty seed changes nothing), and
``{"reader": ..., "hostile": ...}`` for one of a list.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path += [str(HERE), *(str(HERE.parent / name) for name in ("report", "store"))]

from mutations import mutated  # noqa: E402
from readers import READERS  # noqa: E402
from structural import CANARY, HOSTILE, SELF_TESTS  # noqa: E402

from robustbench_pcl.errors import UserError  # noqa: E402

MEMORY = 2**30
"""Bytes beyond those of Python, torch and the package."""
LONGEST_WORDS = 3000
OWN = tuple(
    os.path.realpath(path)
    for path in (sys.prefix, sys.base_prefix, HERE.parents[1], "/proc", "/sys", "/dev/null", "/usr")
)
"""What may be opened beside the workspace: code, and what the system says of itself."""


class Watch:
    """What is opened, as Python tells it."""

    def __init__(self) -> None:
        self.root, self.outside = "", list[str]()
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See :func:`sys.addaudithook`."""
        if event == "open" and self.root and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith((self.root, *OWN)):
                self.outside.append(path)


def holds_canary(found: object) -> bool:
    """Whether what was read has anything of the file outside."""
    if isinstance(found, torch.Tensor):
        found = found.detach().numpy()
    if isinstance(found, np.ndarray):
        if found.nbytes > 2**26:  # one number, seen many times
            return False
        return CANARY.encode() in found.tobytes()
    if isinstance(found, dict):
        return any(map(holds_canary, [*found.keys(), *found.values()]))
    if isinstance(found, list | tuple):
        return any(map(holds_canary, found))
    return CANARY in str(found)


def judged(read: Any, path: Path) -> str:
    """What came of reading a file: "data", "refused", or what is wrong with that."""
    try:
        found = read(path)
    except UserError as error:
        words = (error.cause, error.cure)
        if not all(words) or any("\n" in each for each in words):
            return f"not two lines: {words}"
        if len(str(error)) > LONGEST_WORDS:
            return f"{len(str(error))} characters: {str(error)[:200]}"
        return "the content of another file" if holds_canary(words) else "refused"
    except BaseException as error:
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        where = last and f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}"
        return f"{type(error).__name__}: {str(error)[:300]} ({where})"
    return "the content of another file" if holds_canary(found) else "data"


def main(folder: Path) -> None:
    """Answer until nobody asks."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    watch = Watch()
    (folder / "outside").write_text(CANARY * 1000)
    made: dict[str, tuple[Path, bytes]] = {}
    readers = {**READERS, **SELF_TESTS}
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY + 2**28, resource.RLIM_INFINITY))
    for line in sys.stdin:
        case = json.loads(line)
        name, reader = case["reader"], readers[case["reader"]]
        if name not in made:
            root = folder / name / "workspace"
            root.mkdir(parents=True)
            path = reader.make(root)
            made[name] = path, path.read_bytes()
        path, content = made[name]
        if "hostile" in case:
            HOSTILE[case["hostile"]][1](path, content)
        else:
            path.write_bytes(mutated(content, case["seed"]) if case["seed"] else content)
        watch.root, watch.outside = os.path.realpath(folder / name / "workspace"), []
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        outcome = judged(reader.read, path)
        watch.root = ""
        seconds = time.process_time() - start
        cost = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if watch.outside:
            outcome = f"opened {watch.outside[0]}"
        if cost > MEMORY:
            outcome = f"{cost:,} bytes, {outcome}"
        restore(path, content)
        print(json.dumps({"outcome": outcome, "seconds": round(seconds, 3)}), flush=True)


def restore(path: Path, content: bytes) -> None:
    """Put the real file back in its place."""
    for left in path.parent.glob("*.bad*"):
        left.unlink()
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    elif os.path.lexists(path):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
