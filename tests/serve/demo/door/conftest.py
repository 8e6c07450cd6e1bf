"""A demo with secrets beside it, what is named in attacks, and a picture of a visitor."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from attacked import ALSO, COLOUR, KNOWN_AS, Site
from demo_server import demo, upload
from PIL import Image
from serve_graphs import halves, write_clip, write_graph


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    models = (
        write_graph(folder / "sliding.onnx", runtime_tau=True, extras=True),
        write_graph(folder / "plain.onnx"),
    )
    secret, clip = folder / "secret.png", folder / "secret.ts"
    colour = np.full((64, 64, 3), COLOUR, np.uint8)
    Image.fromarray(colour).save(secret)
    write_clip(clip, times=range(12), picture=colour)
    (folder / "examples").mkdir()
    Image.fromarray(halves(60, 60)).save(folder / "examples" / "street.png")
    write_clip(folder / "examples" / "drive.mp4", times=range(6))
    options = ("--examples", folder / "examples", "--allow-host", KNOWN_AS, "--allow-host", ALSO)
    with demo(folder / "server", *models, *options) as running:
        yield Site(running, secret, clip, upload(running, folder / "examples" / "street.png"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(halves(80, 100)).save(tmp_path / "mine.png")
    return tmp_path / "mine.png"


def _paths(site: Site) -> dict[str, str]:
    """What is named: some exist and some do not, and the answer must not tell."""
    link = site.folder / "links" / "link.png"  # files right in the folder are swept after an upload
    if not link.is_symlink():
        link.parent.mkdir()
        link.symlink_to(site.secret)
        (site.folder / "folder").symlink_to(site.secret.parent)
        (site.folder / "round").symlink_to(site.folder / "round")
    inside = f"{site.folder}/"
    return {
        "absolute": str(site.secret),
        "absent": str(site.secret.with_name("absent.png")),
        "no folder": "/absent/absent.png",
        "relative": os.path.relpath(site.secret),
        "traversing": inside + os.path.relpath(site.secret, site.folder),
        "traversing to nothing": inside + "../../../../absent.png",
        "neighbour": f"{site.folder}-other/secret.png",
        "symlinked": str(link),
        "symlinked folder": f"{site.folder}/folder/secret.png",
        "circle": f"{site.folder}/round/x.png",
        "the folder": str(site.folder),
        "cleaned up": inside + "0" * 64 + "/x.png",
        "through proc": f"/proc/self/root{site.secret}",
        "own memory": "/proc/self/environ",
        "device": "/dev/zero",
        "home": "~/x.png",
        "file address": f"file://{site.secret}",
        "web address": f"http://127.0.0.1:{site.port}/gradio_api/file={site.secret}",
        "other address": "http://198.51.100.7/x.png",
        "NUL": f"{site.secret}\0.png",
        "long": "/" + "a" * 5000,
        "empty": "",
        "clip": str(site.secret_clip),
        "numbered clip": str(site.secret.with_name("secret%d.png")),
        # Ways that end at a file of the page: what lies on the way would show in the answer, and who takes
        # the text for an address asks there.
        "web address to an upload": "http://198.51.100.7/" + "../" * 20 + site.uploaded.lstrip("/"),
        "local address to an upload": f"file:/{site.uploaded}",
        "past a link": "/bin/.." + site.uploaded,
        "past nothing": "/absent/.." + site.uploaded,
        "past a process": "/proc/self/cwd/" + "../" * 20 + site.uploaded.lstrip("/"),
        "relative to an upload": os.path.relpath(site.uploaded),
        "not plain": site.uploaded.replace("/street", "/./street"),
        "two slashes": "/" + site.uploaded,
    }


@pytest.fixture(scope="module")
def paths(site: Site) -> dict[str, str]:
    return _paths(site)
