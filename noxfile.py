"""Sessions: tests (the default), slow, chaos, cluster, latex, page, docs, lint, types, demo..."""

from __future__ import annotations

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
CHAOS = ("tests/chaos", "tests/pipeline/test_pipeline_faults.py")
PATHS = ("robustbench_pcl", "tests", "benchmarks", "docs", "noxfile.py")


@nox.session
def tests(session: nox.Session) -> None:
    """Every quick test, with coverage: a process per core, one thread each."""
    session.install("-e", ".[test]")
    session.run(
        "pytest",
        "-n",
        "auto",
        "--dist",
        "worksteal",
        "--cov",
        "--cov-report=term",
        "-m",
        "not slow and not chaos and not cluster and not latex",
        *session.posargs,
        env={"OMP_NUM_THREADS": "1"},
    )


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take minutes: the whole demo among them."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill a suite 200 times, and fail each system call in turn; `-- --kills 30` in 4 minutes."""
    session.install("-e", ".[test]")
    arguments = session.posargs or ["--kills", "200", "--kill-seconds", "7200"]
    session.run("pytest", "-m", "chaos", "-n", "2", *CHAOS, *arguments)


@nox.session
def cluster(session: nox.Session) -> None:
    """A suite on a real Slurm and a real Ray (docs/how-to/cluster.md)."""
    session.install("-e", ".[test,slurm,ray]")
    session.run("pytest", "-m", "cluster", "-rs", "tests/cluster", *session.posargs)


@nox.session
def latex(session: nox.Session) -> None:
    """Every table compiles in a two-column article and fits; needs pdflatex and booktabs."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "latex", "-rs", "tests/report", *session.posargs)


@nox.session
def page(session: nox.Session) -> None:
    """The page in Chromium, with axe-core; what is lacking for that is said."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "page", "-rs", "tests/report", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and format."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", *PATHS)
    session.run("ruff", "format", "--check", *PATHS)


@nox.session
def types(session: nox.Session) -> None:
    """Strict types."""
    session.install("-e", ".[types]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, and do all that the documents say."""
    session.install("-e", ".[test,docs]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "docs", "docs/_build")
    session.run("pytest", "tests/docs", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session
def demo(session: nox.Session) -> None:
    """The whole pipeline on digits, in a temporary folder."""
    session.install(".")
    session.run("pclbench", "demo", "--home", session.create_tmp())


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed, as ratios in one interleaved run."""
    # What the peers pin would replace newer versions: they get what they import, and no more.
    session.install("-e", ".", "tqdm")
    session.install("--no-deps", "torchattacks==3.5.1", "adv-lib==0.2.8")
    session.run("python", "-m", "benchmarks", *session.posargs)
