"""How archives are written and refused in tests."""

from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.evidence.inventory import take_stock
from robustbench_pcl.evidence.manifest import Selection
from robustbench_pcl.evidence.travel import chosen, export_archive
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.records import Measurement, Paths, read_record, save_record

QUIET = Progress()
ALL = Selection()


def export(home, archive, selection=ALL, ids=(), **options):
    items = chosen(take_stock(Paths(home)), selection, ids, **options)
    export_archive(items, archive, selection, QUIET)
    return archive


def contents(home):
    """Every file of a workspace, by name, but what is not finished and does not travel."""
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for folder in ("checkpoints", "results")
        for path in (home / folder).rglob("*")
        if path.is_file() and path.parent.name != "partial" and path.parent.suffix != ".parts"
    }


def measured_anew(path, **changes):
    """Store a measurement with other fields, sealed as it would be by who measured that."""
    record = read_record(path, Measurement).changed(**changes)
    save_record(path.parent, path.stem, record)


def refused(archive, home, cause):
    """An import that is refused in two lines, and of which nothing is left."""
    before = contents(home) if home.exists() else {}
    result = CliRunner().invoke(app, ["store", "import", str(archive), "--home", str(home)])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 2
    assert any(each in result.stderr for each in cause.split("|")), result.stderr
    assert "\x1b" not in result.stderr
    assert contents(home) == before
    assert list(Paths(home).results.rglob(".passing*")) == []
