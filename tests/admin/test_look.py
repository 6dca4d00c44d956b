"""The stylesheet and script: small, ours alone, and readable in both themes."""

import re

import pytest

from asgi_llmobs.admin.assets import asset_names, assets, templates_directory

INKS = ("text", "soft", "accent", "bad", "warn", "good")
PAPERS = ("bg", "card", "sunk", "wash", "bad-wash", "warn-wash")


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture
def stylesheet() -> str:
    """The stylesheet as it stands in the folder."""
    return (templates_directory() / "static" / "admin.css").read_text()


def test_all_files_together_are_small() -> None:
    """No more than 100 KB, and nothing in the folder that is not served."""
    there = {path.name for path in (templates_directory() / "static").iterdir()}

    assert there == set(asset_names())
    assert sum(len(asset.content) for asset in assets().values()) <= 100_000


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink", INKS)
def test_contrast(stylesheet: str, ink: str, theme: int) -> None:
    """Every colour of text has 4.5 : 1 on every ground that text stands on."""
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", stylesheet))
    colours = {name: pair.split(", ")[theme] for name, pair in pairs.items()}

    for paper in PAPERS:
        assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)


def test_one_scale(stylesheet: str) -> None:
    """Five sizes of type; distances come from one list."""
    sizes = set(re.findall(r"font(?:-size)?:[^;}]*?(\d+)px", stylesheet))

    assert sizes == {"11", "12", "13", "15", "20"}


def test_nothing_from_elsewhere(stylesheet: str) -> None:
    """No font, picture or module is fetched from another place, and no markup is made of text."""
    scripts = [path.read_text() for path in sorted((templates_directory() / "static").glob("*.js"))]

    assert not re.search(r"url\(|@import|https?:", stylesheet)
    for script in scripts:
        own = re.sub(r"await import\(new URL\(.+?\)\.href\)", "", script)  # of a page of ours, named by it
        assert not re.search(r"https?:|\bimport\b|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", own)


def test_templates_hold_no_style_attributes() -> None:
    """The policy of the pages allows neither style attributes nor inline handlers."""
    for path in templates_directory().rglob("*.html"):
        assert not re.search(r"\sstyle=|\son\w+=|javascript:|\|\s*safe\b", path.read_text()), path.name


def test_a_class_means_one_thing(stylesheet: str) -> None:
    """Two parts of the stylesheet never give one class, alone, two looks: the later would change the earlier."""
    plain = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", stylesheet)
    names = re.findall(r"(?:^|\})\s*(\.[\w-]+)\s*\{", plain, re.MULTILINE)

    assert sorted(name for name in set(names) if names.count(name) > 1) == []
