"""The picture in ARCHITECTURE.md: the rooms in their layers, and who imports whom, from the source.

    PYTHONPATH=tests python -m static.rooms_picture >docs/rooms.svg

An arrow that others already say is left out: where `cli` imports `host` and `host` imports `errors`, `cli` to `errors`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html import escape

from static.imports import PACKAGE, import_graph
from static.layers import APART, LAYERS
from support.checkout import CHECKOUT

_WIDTH, _BOX, _HIGH, _STEP, _EDGE = 900, 112, 30, 74, 16
_STYLE = """
    rect { fill: #f4f6f8; stroke: #57606a; rx: 4px }
    rect.apart { stroke-dasharray: 4 3 }
    text { font: 13px sans-serif; fill: #1f2328; text-anchor: middle }
    line { stroke: #8c959f; marker-end: url(#tip) }
    #tip path { fill: #8c959f }
    @media (prefers-color-scheme: dark) {
      rect { fill: #22272e; stroke: #adbac7 }
      text { fill: #e6edf3 }
    }
"""

Arrows = dict[str, set[str]]


def picture() -> str:
    """Return the SVG."""
    arrows = _without_what_others_say(_arrows_between_rooms())
    places = {room: place for row, rooms in enumerate(_rows()) for room, place in _spread(rooms, row)}
    height = len(_rows()) * _STEP + _EDGE
    lines = [_line(places[one], places[other]) for one in sorted(arrows) for other in sorted(arrows[one])]
    boxes = [_box(room, *place) for room, place in sorted(places.items())]
    return "\n".join([_head(height), *lines, *boxes, "</svg>", ""])


def _rows() -> list[list[str]]:
    """The rooms of each layer from the top; those that stand apart lie beside what they are like."""
    rows = [[name for name in names if name and not name.startswith("_")] for names in LAYERS]
    rows = [row for row in rows if row]
    for room, beside in (("server", "host"), ("broker", "systemd")):
        next(row for row in rows if beside in row).append(room)
    return rows


def _arrows_between_rooms() -> Arrows:
    arrows: Arrows = {room: set() for row in _rows() for room in row}
    for module, imported in import_graph(CHECKOUT / "src" / PACKAGE).items():
        room = module.partition(".")[0]
        others = {name.partition(".")[0] for name in imported} - {room, ""}
        if room in arrows:
            arrows[room] |= others & arrows.keys()
    return arrows


def _without_what_others_say(arrows: Arrows) -> Arrows:
    return {
        room: {one for one in others if not any(one in _reached(arrows, other) for other in others - {one})}
        for room, others in arrows.items()
    }


def _reached(arrows: Arrows, room: str) -> set[str]:
    return {found for other in arrows[room] for found in ({other} | _reached(arrows, other))}


def _spread(rooms: list[str], row: int) -> Iterator[tuple[str, tuple[float, int]]]:
    """Yield each room of a row with the middle of its box's upper edge."""
    for number, room in enumerate(rooms):
        yield room, (_WIDTH * (number + 0.5) / len(rooms), row * _STEP + _EDGE)


def _line(one: tuple[float, int], other: tuple[float, int]) -> str:
    return f'  <line x1="{one[0]:.0f}" y1="{one[1] + _HIGH}" x2="{other[0]:.0f}" y2="{other[1] - 5}"/>'


def _box(room: str, x: float, y: int) -> str:
    apart = ' class="apart"' if room in APART else ""
    rect = f'<rect{apart} x="{x - _BOX / 2:.0f}" y="{y}" width="{_BOX}" height="{_HIGH}"/>'
    return f'  {rect}<text x="{x:.0f}" y="{y + 20}">{escape(room)}</text>'


def _head(height: int) -> str:
    tip = '<marker id="tip" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" orient="auto">'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">\n'
        "  <title>The rooms of local-agent in their layers; an arrow goes from who imports to who is imported</title>\n"
        f'  <style>{_STYLE}  </style>\n  <defs>{tip}<path d="M0 0L6 3L0 6z"/></marker></defs>'
    )


if __name__ == "__main__":
    sys.stdout.write(picture())
