"""Every command and snippet of the documents works as it stands there."""

import os
import subprocess
import sys
from pathlib import Path

import following
import pytest

ROOT = Path(__file__).parents[2]
NOT_FOLLOWED = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
"""What tells of changes, and whose commands run these tests, or measure speed."""


def documents() -> list[str]:
    """The documents that have something to follow."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]
    names = (path.relative_to(ROOT).as_posix() for path in sorted(found))
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    return [
        name
        for name, text in texts.items()
        if name not in NOT_FOLLOWED and any(following.blocks(text))
    ]


@pytest.mark.slow  # CI follows README and tutorial
@pytest.mark.parametrize("name", documents())
def test_a_document_can_be_followed_from_top_to_bottom(name, tmp_path):
    words = [sys.executable, "-P", following.__file__, str(ROOT / name)]
    environment = {key: value for key, value in os.environ.items() if key != "PCLBENCH_HOME"}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


def followed(text, folder):
    document = folder / "document.md"
    document.write_text(text)
    result = subprocess.run(
        [sys.executable, "-P", following.__file__, str(document)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


WORKS = """
Save this as `my_part.py`, which `your.py` has not:

```python
VALUE = 6
```

```
pip install pclbench-that-is-nowhere  # passed over
pclbench attacks list \\
    --format json > attacks.json
pclbench explain PCL999  # exit code 2: there is no such code
python -c "from pathlib import Path; Path('one.txt').write_text('1')"
```

It writes `one.txt`, and `two.txt` if asked.

```python
import json
from my_part import VALUE
first = VALUE * len(json.load(open("attacks.json")))
```

```text
pclbench this is only shown
```

   ```python
   assert first % 6 == 0
   open("three.txt", "w").close()
   ```
"""


def test_blocks_share_a_folder_and_names_and_text_is_only_shown(tmp_path):
    code, said = followed(WORKS, tmp_path)
    assert code == 0, said
    assert "not run, what is installed is being tested: pip install" in said
    assert {path.name for path in tmp_path.iterdir()} >= {"my_part.py", "attacks.json", "three.txt"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n\n```\npclbench explain PCL999\n```\n", "document.md:4: exit code 2"),
        ("```\ntrue  # exit code 1\n```\n", "document.md:2: exit code 0"),
        ("```\nfalse | cat\n```\n", "document.md:2: exit code 1"),
        ("```python\n1 / 0\n```\n", "document.md:2: the Python block fails"),
        ("```python\nfirst = 1\n```\n```python\nsecond\n```\n", "document.md:5: the Python"),
        ("```python\nimport os\nos._exit(0)\n```\n", "document.md:2: the Python block fails"),
        ("It writes `my/page.html`.\n", "document.md: nothing wrote my/page.html"),
        ("```\ntrue\n```\n It saves them in `a.txt`.", "nothing wrote a.txt"),
    ],
)
def test_what_does_not_work_is_said_with_its_line(text, said, tmp_path):
    code, found = followed(text, tmp_path)
    assert code == 1
    assert said in found


def test_what_is_written_is_named_by_commands_and_by_the_text():
    text = "```\npclbench report -o table.tex\npclbench report -o no.svg  # exit code 2\n```\n"
    text += "It writes a file `page.html`, and prints `other.html`.\n```text\n-o shown.csv\n```\n"
    assert following.written(text) == {"table.tex", "page.html"}
