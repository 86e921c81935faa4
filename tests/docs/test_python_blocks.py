"""Every Python block of the documentation runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import REPOSITORY, Page, pages

LANGUAGES = {"console", "csv", "http", "json", "python", "sql", "text", "toml", "yaml"}
WITH_PYTHON = [page for page in pages() if any(block.language == "python" for block in page.blocks)]


def run_page(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AOB_")}
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", str(page)],
        cwd=folder,
        env={**clean, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Page, tmp_path: Path) -> None:
    done = run_page(page.path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_names_a_language_that_we_know_how_to_check(page: Page) -> None:
    assert [f"{page.name}:{b.line}: {b.info!r}" for b in page.blocks if b.language not in LANGUAGES] == []
    unusual = [b for b in page.blocks if b.language == "python" and not (b.info == "python" or b.title)]
    assert [f"{page.name}:{b.line}: {b.info!r}" for b in unusual] == []


PAGE = """\
```python title="shop.py"
price = 40
```

```python
import asyncio
import shop

async def answer() -> int:
    await asyncio.sleep(0)
    return shop.price + 2
```

1. indented, with an await of its own

   ```python
   assert await answer() == {expected}
   assert __name__ == "__main__"
   ```

```python
print(asyncio.run(answer()))
```
"""


def test_blocks_share_a_namespace_a_folder_and_a_loop(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE.format(expected=42))
    done = run_page(tmp_path / "page.md", tmp_path)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_a_block_that_fails_is_reported_by_its_line_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE.format(expected=43))
    done = run_page(tmp_path / "page.md", tmp_path)
    assert done.returncode != 0
    assert "page.md:17" in done.stderr
    assert "line 17, in <module>" in done.stderr
