"""The documentation site builds without a warning, with a page for whatever the documents link to."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return folder


def test_links_to_files_of_the_repository_lead_to_pages(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in ("overview.html", "cluster.html", "contributing.html", "source/config.yaml.html"):
        assert f'href="{page}"' in index
        assert (site / page).is_file()
    assert "experiments" in (site / "source" / "config.yaml.html").read_text(encoding="utf-8")


def test_the_api_pages_have_every_method_and_the_names_that_others_rely_on(site):
    pages = "".join(file.read_text(encoding="utf-8") for file in (site / "api").glob("*.html"))
    names = set(re.findall(r'id="(spikedistill[\w.]*)"', pages))
    assert {
        "spikedistill.distill.kd.kd_divergence",
        "spikedistill.distill.sealkd.sealkd_loss",
        "spikedistill.neurons.lif.lif",
        "spikedistill.models.build.build_student",
        "spikedistill.data.prepare.integrate.integrate",
        "spikedistill.train.objective.Batch",
        "spikedistill.plan.build.build_plan",
    } <= names


def test_nothing_is_fetched_from_a_font_service(site):
    assert not [file for file in site.rglob("*.html") if "fonts.g" in file.read_text(encoding="utf-8")]
