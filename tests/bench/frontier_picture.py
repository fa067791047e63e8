"""Draw what ``frontier.py`` printed: accuracy against speed-up, a point a recipe, as a small SVG.

    python tests/bench/frontier_picture.py lines.jsonl frontier.svg

A recipe whose name says INT8 is drawn full, others hollow; the line through a point is the spread of its speed-up.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 12, 40


def picture(lines: list[dict[str, Any]]) -> str:
    """Return the SVG."""
    fastest = max(line["spread"][1] for line in lines)
    slowest = min(1.0, *(line["spread"][0] for line in lines))
    best = max(line["accuracy"] for line in lines)
    worst = min(line["accuracy"] for line in lines)
    margin = max(0.1 * (best - worst), 0.25)

    def x(speedup: float) -> float:
        return LEFT + (speedup - slowest) / (fastest - slowest) * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        return TOP + (best + margin - accuracy) / (best - worst + 2 * margin) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11"><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">times as fast as float</text>',
    ]
    for tenth in range(int(slowest * 10) + 1, int(fastest * 10) + 1):
        at = x(tenth / 10)
        parts.append(f'<text x="{at:.0f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tenth / 10}</text>')
    parts += [
        f'<text x="{LEFT - 5}" y="{y(percent) + 4:.0f}" text-anchor="end">{percent} %</text>'
        for percent in range(int(worst - margin) + 1, int(best + margin) + 1)
    ]
    for line in lines:
        across, down = x(line["speedup"]), y(line["accuracy"])
        low, high = map(x, line["spread"])
        fill = "#06c" if "INT8" in line["recipe"] else "#fff"
        parts += [
            f'<path d="M{low:.0f} {down:.0f}H{high:.0f}" stroke="#bcd"/>',
            f'<circle cx="{across:.0f}" cy="{down:.0f}" r="4" fill="{fill}" stroke="#06c"/>',
            f'<text x="{across:.0f}" y="{down - 8:.0f}" text-anchor="middle">{escape(line["recipe"])}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Read the lines and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.lines.read_text().splitlines()]
    arguments.picture.write_text(picture(lines))


if __name__ == "__main__":
    main()
