"""Manual pages in the language of man(7): text in, roff out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_MARKED = re.compile(r"`([^`]+)`|\b(local-agent[a-z@.-]*|[a-z][a-z0-9.-]*)\(([1-8])\)")


def escaped(text: str) -> str:
    """Return a text as roff that prints as that text."""
    roff = "".join(_SPECIAL.get(char, char) for char in text)
    return f"\\&{roff}" if roff.startswith((".", "\\(aq")) else roff


def marked(text: str) -> str:
    """Return running text as roff: what stands between backquotes and names of pages are set in bold."""
    out, end = [], 0
    for match in _MARKED.finditer(text):
        out.append(escaped(text[end : match.start()]))
        literal, page, section = match.groups()
        out.append(f"\\fB{escaped(literal)}\\fR" if literal else f"\\fB{escaped(page)}\\fR({section})")
        end = match.end()
    return "".join(out) + escaped(text[end:])


class Page:
    """A page that grows from top to bottom."""

    def __init__(self, name: str, section: int, what: str, date: str, version: str) -> None:
        """Given the page's name and section, and what it is about in one line without a full stop."""
        self.name = name
        self.section = section
        self._lines = [
            f'.TH "{escaped(name.upper())}" "{section}" "{date}" "local\\-agent {version}" "local\\-agent"',
            ".SH NAME",
            f"{escaped(name)} \\- {escaped(what)}",
        ]

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.name}.{self.section}"

    def text(self) -> str:
        """Return the whole page."""
        return "\n".join(self._lines) + "\n"

    def heading(self, title: str) -> None:
        """Begin a section."""
        self._lines.append(f".SH {escaped(title.upper())}")

    def subheading(self, title: str) -> None:
        """Begin a section in a section."""
        self._lines.append(f".SS {escaped(title)}")

    def synopsis(self, words: str) -> None:
        """Say how a command is called."""
        self.heading("synopsis")
        self._lines.append(f".B {escaped(words)}")

    def paragraphs(self, text: str) -> None:
        """Add paragraphs, parted by empty lines; one that is indented is shown as it is."""
        for number, block in enumerate(re.split(r"\n{2,}", textwrap.dedent(text).strip("\n"))):
            if block.startswith("    "):
                self.example(block)
                continue
            if number or not self._lines[-1].startswith((".SH", ".SS", ".TP", ".B ")):
                self._lines.append(".PP")
            self._lines += _sentences(marked(" ".join(block.split())))

    def example(self, block: str) -> None:
        """Add lines as they are."""
        lines = textwrap.dedent(block).strip("\n").splitlines()
        paragraph = [] if self._lines[-1].startswith((".SH", ".SS")) else [".PP"]
        self._lines += [*paragraph, ".in +4n", ".EX", *(escaped(line) for line in lines), ".EE", ".in"]

    def items(self, items: Iterable[tuple[str, str]]) -> None:
        """Add a list of terms, each with its text."""
        for term, text in items:
            self._lines += [".TP", f".B {escaped(term)}"]
            first, *rest = re.split(r"\n{2,}", text.strip()) if text.strip() else [""]
            self._lines += _sentences(marked(" ".join(first.split())))
            for block in rest:
                self._lines += [".IP", *_sentences(marked(" ".join(block.split())))]

    def see_also(self, pages: Sequence[tuple[str, int]]) -> None:
        """Add the last section."""
        self.heading("see also")
        others = [page for page in pages if page != (self.name, self.section)]
        last = len(others) - 1
        for number, (name, section) in enumerate(others):
            self._lines.append(f".BR {escaped(name)} ({section}){',' if number < last else ''}")


def _sentences(roff: str) -> list[str]:
    """One sentence a line, as man(7) wants it."""
    lines = re.split(r"(?<=[a-z0-9)R][.:]) (?=[A-Z\\])", roff) or [""]
    return [f"\\&{line}" if line.startswith(".") else line for line in lines]
