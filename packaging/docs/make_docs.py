"""Makes what is derived from declarations: manual pages, the message catalog, completions.

`python -m make_docs FOLDER`, with src/ and this folder on the path, fills the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import command_pages
import completions
import journal_page
import settings_page
from facts import facts

_BY_HAND = Path(__file__).with_name("man")


def main(folder: Path) -> None:
    """Fill a folder."""
    known = facts()
    for page in (*command_pages.pages(known), settings_page.page(known), journal_page.page(known)):
        _write(folder / "man" / page.file_name, page.text())
    for file in sorted(_BY_HAND.iterdir()):
        text = file.read_text().replace("@DATE@", known.date).replace("@VERSION@", known.version)
        _write(folder / "man" / file.name, text)
    for name, script in completions.scripts():
        _write(folder / "completions" / name, script)
    _write(folder / "local-agent.catalog", journal_page.catalog())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
