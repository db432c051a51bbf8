"""A hook of mkdocs that makes links to files outside of docs/ work on the site.

Documents link to files of the repository by relative paths, which work on a code host. On the site, the documents outside of
docs/ are pages of their own (`PAGES`), and every other file that is linked has a page that shows its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs"
PAGES = {
    "README.md": "overview.md",
    "cluster/README.md": "cluster.md",
    "src/snakemake-executor-plugin-submitit/README.md": "plugin.md",
    "src/snakemake-executor-plugin-submitit/CHANGELOG.md": "plugin-changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Documents outside of docs/, by their path in the repository: the page of each on the site."""
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?=[#)])")
LANGUAGES = {"": "text", "py": "python", "smk": "python", "yml": "yaml", "cff": "yaml", "rst": "rst"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents outside of docs/, and a page for every other linked file of the repository."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    linked = {target for file in files.documentation_pages() for target in _targets(file)}
    for path in sorted(linked):
        files.append(File.generated(config, _page_of(path), content=_source_page(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite each link to a file of the repository into a link to its page."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    here = _path_of(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        target = _resolve(here, match["path"])
        if not (ROOT / target).exists():
            return match["path"]  # mkdocs reports it
        return posixpath.relpath(_page_of(target), posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(replace, markdown)


def _targets(file: File) -> set[str]:
    """Return the paths of the files that a document links to and that have no page yet."""
    here = _path_of(file.src_uri)
    targets = {_resolve(here, match["path"]) for match in LINK.finditer(file.content_string)}
    return {path for path in targets if path not in PAGES and not path.startswith(f"{DOCS}/") and (ROOT / path).exists()}


def _path_of(page: str) -> str:
    """Return the path in the repository of a page's source."""
    return next((path for path, name in PAGES.items() if name == page), f"{DOCS}/{page}")


def _page_of(path: str) -> str:
    """Return the page of a path in the repository."""
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    return PAGES.get(path, f"source/{path}.md")


def _resolve(here: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def _source_page(path: str) -> str:
    file = ROOT / path
    if file.is_dir():
        return f"{_head(path)}{''.join(f'- `{each.name}`{chr(10)}' for each in sorted(file.iterdir()))}"
    suffix = file.suffix.removeprefix(".")
    return f"{_head(path)}``````{LANGUAGES.get(suffix, suffix)}\n{file.read_text(encoding='utf-8')}\n``````\n"


def _head(path: str) -> str:
    return f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n\n# `{path}`\n\n"
