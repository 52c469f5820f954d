"""Pages of the commands, from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from reference import restructured as rst
from robustbench_pcl.cli.app import COMMANDS, GROUPS, app


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command, by the words that follow ``pclbench``."""
    root: Any = typer.main.get_command(app)
    for word in COMMANDS:
        yield word, root.commands[word]
    for group in GROUPS:
        for word, command in root.commands[group].commands.items():
            yield f"{group} {word}", command


def pages() -> dict[str, str]:
    """A page for each word after ``pclbench``, and one that lists them."""
    root: Any = typer.main.get_command(app)
    found = {f"commands/{word}": _page(word, root.commands[word]) for word in COMMANDS}
    for word, (summary, _) in GROUPS.items():
        below = root.commands[word].commands.items()
        sections = [_command(f"{word} {name}", command, 1) for name, command in below]
        title = rst.heading(f"pclbench {word}", 0, f"command-{word}")
        found[f"commands/{word}"] = rst.page(title, rst.plain(summary), *sections)
    rows = [
        (rst.link(_label(words), f"pclbench {words}"), rst.plain(_summary(command)))
        for words, command in leaves()
    ]
    found["commands/index"] = rst.page(
        rst.heading("Commands", 0, "commands"),
        "``pclbench COMMAND --help`` prints what stands here.",
        rst.table(("Command", "What it does"), rows),
        rst.heading("Options before the command", 1),
        _usage(root, "pclbench", "[OPTIONS] COMMAND"),
        _options(root, "pclbench"),
        rst.contents([*COMMANDS, *GROUPS]),
    )
    return found


def _page(words: str, command: Any) -> str:
    return _command(words, command, 0)


def _command(words: str, command: Any, level: int) -> str:
    """What a command does, takes and prints."""
    return rst.page(
        rst.heading(f"pclbench {words}", level, _label(words)),
        rst.plain(command.help),
        _usage(command, f"pclbench {words}"),
        _options(command, f"pclbench {words}"),
    )


def _usage(command: Any, words: str, takes: str = "") -> str:
    context = typer.Context(command, info_name=words)
    pieces = takes or " ".join(command.collect_usage_pieces(context))
    return f".. code-block:: text\n\n   {words} {pieces}"


def _options(command: Any, words: str) -> str:
    """Each argument and option: how it is written, what it says, what holds without it."""
    context, rows = typer.Context(command, info_name=words), []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or parameter.hidden:
            continue
        written, meaning = record
        if "[" in meaning and meaning.endswith("]"):
            meaning, _, extra = meaning[:-1].rpartition("[")
        else:
            extra = ""
        parts = [rst.plain(part.strip()) for part in extra.split(";") if part.strip()]
        default = "; ".join(part.removeprefix("default: ") for part in parts)
        rows.append((rst.code(written), rst.plain(meaning.strip()), default))
    return rst.table(("Option", "What it says", "Without it"), rows)


def _summary(command: Any) -> str:
    return str(command.help).partition("\n")[0]


def _label(words: str) -> str:
    return f"command-{words.replace(' ', '-')}"
