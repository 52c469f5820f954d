"""Do what a document says, as it stands there, in the folder where this is run.

    python -P following.py DOCUMENT

Blocks without a language, or of `console`, `bash` or `sh`, are commands; blocks of `python` are run
one after the other like the cells of one notebook. A block whose paragraph ends with a colon and
names a file of that kind (`my_model.py`, `my.toml`) is that file. Blocks of any other language are
only shown: `text` is what is printed, or what needs a network, a cluster, an accelerator or hours.

A command has to end with 0, or with what a comment behind it says: `# exit code 1`. What a command
writes (`-o FILE`, `--bundle DIR`), and what the text says is written, has to be there in the end.
"""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

FENCE = re.compile(r"^( *)```([^\s`]*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SHELL = ("", "console", "bash", "sh")
SUFFIXES = {"python": ".py", "toml": ".toml", "yaml": ".yml", "": ".txt"}
"""What a file is called that a block of a language holds."""
SAVED = re.compile(r"`(\w[\w-]*\.\w+)`")
EXIT_CODE = re.compile(r"#.*?exit code (\d+)")
NOT_RUN = {"pip install": "what is installed is being tested", "git clone": "needs a network"}
"""Commands that are passed over, by how they begin, and why."""
NEEDS_SHELL = re.compile(r"[|&;<>$*?~]|^\w+=")
WRITING = re.compile(r"(?<=\s)(?:-o|--output|--bundle)[ =](\S+)")
WRITTEN = re.compile(
    r"\b(?:writes?|written (?:in)?to|saves?|creates?)\b[^`.\n]{0,40}`(\w[\w./-]*)`"
)
HEAVY = ("torch", "torchvision", "pandas", "h5py", "robustbench_pcl.pipeline.workspace")


@dataclass(frozen=True)
class Block:
    """A block of a document that something is done with.

    Attributes:
        kind: "shell", "python" or "file".
        text: what it says.
        line: of the document where it starts.
        name: of the file that it is, or "".
    """

    kind: str
    text: str
    line: int
    name: str = ""


@dataclass(frozen=True)
class Command:
    """A command of a block: what is typed, where it stands, and the code that it ends with."""

    text: str
    line: int
    code: int = 0


def blocks(document: str) -> Iterator[Block]:
    """The blocks of a document with which something is done, in their order."""
    for fence in FENCE.finditer(document):
        indent, language, text = fence.groups()
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
        line = document[: fence.start()].count("\n") + 2
        if name := _name(document[: fence.start()], language):
            yield Block("file", text, line, name)
        elif language == "python":
            yield Block("python", text, line)
        elif language in SHELL:
            yield Block("shell", text, line)


def _name(before: str, language: str) -> str:
    """The file that the paragraph right above a block says the block is; "" for none."""
    paragraph = before.rstrip().rpartition("\n\n")[2]
    suffix = SUFFIXES.get(language)
    if suffix is None or not paragraph.endswith(":"):
        return ""
    return next((name for name in SAVED.findall(paragraph) if name.endswith(suffix)), "")


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block, without comments and prompts; a backslash joins lines."""
    number = block.line
    for lines in re.split(r"(?<!\\)\n", block.text):
        code = EXIT_CODE.search(lines)
        joined = re.sub(r"\s*\\\n\s*", " ", lines)
        words = re.sub(r"(^|\s)#.*", "", joined).strip().removeprefix("$ ")
        if words:
            yield Command(words, number, int(code[1]) if code else 0)
        number += lines.count("\n") + 1


def written(document: str) -> set[str]:
    """What a document says is written: in a command that is run, or in its text."""
    named = set()
    for block in blocks(document):
        for command in commands(block) if block.kind == "shell" else ():
            if not reason(command) and command.code == 0:
                named |= set(WRITING.findall(command.text))
    named |= set(WRITTEN.findall(FENCE.sub("", document)))
    return {name for name in named if re.search(r"[./]", name) and name != "-"}


def reason(command: Command) -> str:
    """Why a command is not run; "" if it is."""
    found = (why for start, why in NOT_RUN.items() if command.text.startswith(start))
    return next(found, "")


def forked(action: Callable[[], object]) -> int:
    """Do something in a process of its own, which has imported what is slow; its exit code."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            action()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def typed(words: list[str]) -> None:
    """What the console script does."""
    sys.argv = ["pclbench", *words]
    importlib.import_module("robustbench_pcl.cli").main()


def run(command: Command, environment: dict[str, str]) -> int:
    """Run a command; its exit code."""
    plain = not NEEDS_SHELL.search(command.text)
    if plain and command.text.startswith("pclbench "):
        return forked(lambda: typed(shlex.split(command.text)[1:]))
    words = ["bash", "-euo", "pipefail", "-c", command.text]
    return subprocess.run(words, env=environment, check=False).returncode


class Notebook:
    """A process that runs blocks of Python one after the other, and remembers their names."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_cells, args=(there,), daemon=True)
        self._process.start()

    def run(self, text: str, where: str) -> bool:
        """Run a block; whether it ran to its end."""
        self._here.send((text, where))
        try:
            return bool(self._here.recv())
        except EOFError:
            return False


def _cells(connection: Connection) -> None:
    sys.path.insert(0, "")
    names: dict[str, object] = {"__name__": "__main__"}
    while True:
        text, where = connection.recv()
        try:
            exec(compile(text, where, "exec"), names)
            connection.send(True)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            connection.send(False)


def scripts(folder: Path) -> dict[str, str]:
    """An environment in which `pclbench` and `python` are this Python's."""
    for name, module in (("pclbench", "-P -m robustbench_pcl"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module} "$@"\n')
        script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def follow(document: Path) -> str:
    """Do what a document says; what does not work, or ""."""
    text, notebook = document.read_text(encoding="utf-8"), None
    for module in HEAVY:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        environment = scripts(Path(folder))
        for block in blocks(text):
            where = f"{document.name}:{block.line}"
            if block.kind == "file":
                Path(block.name).parent.mkdir(parents=True, exist_ok=True)
                Path(block.name).write_text(block.text, encoding="utf-8")
            elif block.kind == "python":
                notebook = notebook or Notebook()
                if not notebook.run(block.text, where):
                    return f"{where}: the Python block fails"
            else:
                for command in commands(block):
                    where = f"{document.name}:{command.line}"
                    if why := reason(command):
                        print(f"{where}: not run, {why}: {command.text}")
                        continue
                    print(f"{where}: {command.text}", flush=True)
                    code = run(command, environment)
                    if code != command.code:
                        return f"{where}: exit code {code}: {command.text}"
    missing = [name for name in sorted(written(text)) if not Path(name).exists()]
    return f"{document.name}: nothing wrote {', '.join(missing)}" if missing else ""


if __name__ == "__main__":
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    sys.exit(follow(Path(sys.argv[1])) or 0)
