"""``--executor`` and its options, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.errors import UserError, unknown_name

if TYPE_CHECKING:
    from robustbench_pcl.jobs.executors.base import Executor

ExecutorOption = Annotated[str, typer.Option(help="Where steps run: local, slurm or ray.")]
ExecutorSettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-option",
        help="Such as partition=gpu or gpus=1 (docs/cluster.md); may be repeated.",
        show_default=False,
    ),
]


def read_executor(name: str, settings: Sequence[str] | None) -> Executor:
    """The executor with that name and its ``key=value`` settings.

    Raises:
        UserError: there is no such executor or setting, or a value is wrong for it.
    """
    from pydantic import ValidationError

    from robustbench_pcl.jobs.executors import EXECUTORS

    kind = EXECUTORS[name]
    given = {}
    for text in settings or ():
        key, separator, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not separator:
            raise UserError(f"{text!r} is not an option.", "Write --executor-option gpus=1.")
        if key not in kind.model_fields:
            raise unknown_name(f"option of executor {name}", key, kind.model_fields)
        given[key] = value.strip()
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UserError(
            f"--executor-option {key}={given[key]}: {first['msg']}.", "See docs/cluster.md."
        ) from error
