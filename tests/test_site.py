"""The site of docs/: whole, and nothing on it is fetched from elsewhere when it is looked at."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import adapt
import export
import serve

ROOT = Path(__file__).parent.parent
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+"
    r"|@import\s+[\"']?(?:url\()?[\"']?https?://[^\"')]+|url\([\"']?https?://[^\"')]+"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert build.returncode == 0, build.stdout
    return folder


def test_pages_fetch_nothing(site):
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 30
    assert {match for page in pages for match in FETCHED.findall(page.read_text(encoding="utf-8"))} == set()


def test_what_would_be_fetched_is_seen():
    assert FETCHED.search('<script src="https://unpkg.com/x"></script>')
    assert FETCHED.search("@font-face{src:url(https://fonts.gstatic.com/x.woff)}")
    assert FETCHED.search('<link href=//fonts.googleapis.com/css rel="stylesheet">')
    assert not FETCHED.search('<a href="https://semver.org">')


def test_every_command_is_on_its_page(site):
    from adapt.cli import main as of_adapt
    from export.cli import main as of_export
    from serve.cli import main as of_serve

    for room, group in (("adapt", of_adapt), ("export", of_export), ("serve", of_serve)):
        page = (site / "reference" / f"{room}.html").read_text(encoding="utf-8")
        for name, command in group.commands.items():
            assert f"{room} {name}" in page
            assert [o for p in command.params for o in p.opts if o.startswith("--") and o not in page] == []


def test_what_programs_may_import_is_on_its_page(site):
    page = (site / "python.html").read_text(encoding="utf-8")
    for room in (adapt, export, serve):
        assert [name for name in room.__all__ if f'id="{room.__name__}.{name}"' not in page] == []
