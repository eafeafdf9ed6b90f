"""The frame of a page of ours: one file that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources

from neurofed.report.tables import tag


def page(title: str, parts: Iterable[str]) -> str:
    """A complete page.

    Args:
        title: plain text.
        parts: HTML; empty ones are left out.
    """
    style = resources.files("neurofed.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · NeuroFed</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def section(title: str, about: str, figures: Iterable[str], more: str = "") -> str:
    """A part of a page; empty where there is nothing in it.

    Args:
        title: plain text.
        about: plain text below the title.
        figures: HTML, side by side where there is room.
        more: HTML below them.
    """
    drawn = "\n".join(figures)
    if not drawn and not more:
        return ""
    what = f'<p class="what">{escape(about)}</p>' if about else ""
    grid = f'<div class="grid2">\n{drawn}\n</div>' if drawn else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{what}{grid}{more}\n</section>"


def figure(title: str, provenance: str, body: str) -> str:
    """A drawing with its title and the mark that says where its numbers come from."""
    return f"<figure><figcaption><h3>{escape(title)}</h3>{tag(provenance)}</figcaption>{body}</figure>"
