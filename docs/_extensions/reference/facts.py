"""Pages of verdict codes, exit codes, environment variables, and the Python interface."""

from __future__ import annotations

from collections.abc import Iterator

from reference import restructured as rst
from robustbench_pcl import __all__ as public
from robustbench_pcl.cli.app import PIPE_CLOSED, UNUSABLE
from robustbench_pcl.diagnosis.codes import Explanation, explanations
from robustbench_pcl.store.diagnoses import CODES

EXIT_CODES = (
    (0, "Done. `diagnose` and `certify` too, whatever they find."),
    (
        1,
        "What was looked at is not as it should be: `check`, where a requirement does not hold; "
        "`verify`, where a number does not follow from the evidence.",
    ),
    (
        UNUSABLE,
        "The user can mend it: two lines say what is wrong and what to type. Nothing stored is "
        "lost.",
    ),
    (3, "`report --strict`: a stored file could not be used and was left out."),
    (130, "Ctrl-C. What was finished is stored; type the command again and it continues."),
    (PIPE_CLOSED, "Nobody reads the output: `pclbench ... | head`."),
    (143, "Ended by SIGTERM, as by a cluster's time limit; as for Ctrl-C."),
)
"""What the command line ends with."""
VARIABLES = {
    "PCLBENCH_HOME": "Workspace: the folder with checkpoints/ and results/, as `--home`.",
    "PCLBENCH_CACHE": "Where data sets are cached; without it, the system's folder for caches.",
    "PCLBENCH_DATA": "A folder with data sets in torchvision's layout, as `--data-root`.",
    "PCLBENCH_PLUGINS": "Modules of your own, separated by commas, as `--plugin`.",
    "PCLBENCH_RECIPES": "Recipes of your own, a TOML file, as `--recipes`.",
    "PCLBENCH_DEVICES_STARTED": "Set by pclbench for the processes of `train --devices N`; not to "
    "be set by hand.",
}
"""What the environment may say."""


def pages() -> dict[str, str]:
    """The four pages."""
    return {
        "codes": _codes(),
        "exit-codes": rst.page(
            rst.heading("Exit codes", 0, "exit-codes"),
            rst.table(("Code", "Means"), [(str(code), _marked(text)) for code, text in EXIT_CODES]),
        ),
        "environment": rst.page(
            rst.heading("Environment variables", 0, "environment-variables"),
            rst.table(
                ("Variable", "Means"),
                [(rst.code(name), _marked(text)) for name, text in VARIABLES.items()],
            ),
        ),
        "python": _python(),
    }


def _marked(text: str) -> str:
    """Text in which a backtick on either side marks code."""
    return text.replace("`", "``")


def _codes() -> str:
    verdicts = set(CODES.values())
    known = explanations()
    return rst.page(
        rst.heading("Verdicts and checks", 0, "codes"),
        "``pclbench diagnose MODEL`` gives a verdict and what each check found; ``pclbench explain "
        "CODE`` prints what stands here.",
        rst.heading("Verdicts", 1),
        *_explained(each for code, each in known.items() if code in verdicts),
        rst.heading("Checks", 1),
        *_explained(each for code, each in known.items() if code not in verdicts),
    )


def _explained(those: Iterator[Explanation]) -> Iterator[str]:
    for each in those:
        yield rst.heading(f"{each.code}: {each.name}", 2, f"code-{each.code.lower()}")
        yield rst.plain(each.meaning.strip())
        for title, lines in (
            ("What to look for", each.evidence),
            ("What to do", each.cures),
            ("To read", each.literature),
        ):
            if lines:
                items = "\n".join(f"* {rst.plain(line)}" for line in lines)
                yield f"**{title}**\n\n{items}"


def _python() -> str:
    return rst.page(
        rst.heading("Python interface", 0, "python"),
        "What a notebook needs is at the top of the package. Nothing of it is imported before it "
        "is used.",
        *(
            f".. autodata:: robustbench_pcl.{name}"
            if name == "__version__"
            else f".. {directive(name)}:: robustbench_pcl.{name}"
            for name in public
        ),
    )


def directive(name: str) -> str:
    """How a public name is documented: a class with its members, or a function."""
    return "autoclass" if name[:1].isupper() else "autofunction"
