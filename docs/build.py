"""Write the documentation as pages: Markdown in, plain HTML out, links kept.

Also prints the matrix of numbered requirements against the tests that cite them, and
fails on a number without a test.
"""

from __future__ import annotations

import re
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CITED = re.compile(r"R-[A-Z0-9]+(?:-[A-Z0-9]+)*-\d+")
DEFINED = re.compile(
    r"^\s*(?:[-*|]\s*)?\**`?(R-[A-Z0-9]+(?:-[A-Z0-9]+)*-\d+)`?\**", re.MULTILINE
)


def requirements() -> dict[str, list[str]]:
    """Return each number that specs/ defines with the test files that cite it."""
    matrix: dict[str, list[str]] = {}
    for page in sorted((ROOT / "specs").rglob("*.md")):
        for number in DEFINED.findall(page.read_text("utf-8")):
            matrix.setdefault(number, [])
    for test in sorted((ROOT / "tests").rglob("*.py")):
        for number in sorted(set(CITED.findall(test.read_text("utf-8")))):
            if number in matrix:
                matrix[number].append(test.relative_to(ROOT).as_posix())
    return matrix


def build(site: Path) -> int:
    """Render every page below the project into `site` and return how many."""
    from markdown_it import MarkdownIt

    render = MarkdownIt("commonmark").enable("table")
    folders = ("docs", "specs")
    pages = [ROOT / "README.md"]
    for name in folders:
        pages += sorted((ROOT / name).rglob("*.md"))
    for page in pages:
        target = site / page.relative_to(ROOT).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        body = render.render(page.read_text("utf-8")).replace('.md"', '.html"')
        target.write_text(
            '<!doctype html><meta charset="utf-8">'
            f"<title>{escape(page.stem)}</title>"
            "<style>body{max-width:46em;margin:2em auto;padding:0 1em;"
            "font:16px/1.55 system-ui,sans-serif}pre,code{background:#f3f3f0}"
            "pre{padding:.6em;overflow:auto}"
            "td,th{border:1px solid #ccc;padding:3px 8px}"
            f"table{{border-collapse:collapse}}</style>{body}",
            "utf-8",
        )
    return len(pages)


def main() -> int:
    """Build the pages and print the matrix."""
    matrix = requirements()
    for number, tests in matrix.items():
        print(f"{number:<18} {', '.join(tests) or 'NO TEST'}")
    print(f"{build(ROOT / 'site')} pages in site/")
    return 1 if any(not tests for tests in matrix.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
