"""Hooks of the documentation site: pages from files outside `docs/`, and links to source files.

README.md, CHANGELOG.md and CONTRIBUTING.md are pages of the site and files of the repository, so
they are written once. A link to a Python module leads to its entry in the API reference; a link
to another file outside `docs/` becomes plain text, because the site does not contain that file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_IMAGE = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside `docs/`."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page valid inside the site."""
    source = PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    folder, page_folder = posixpath.dirname(source), posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, _, anchor = target.partition("#")
        if ":" in path or not path:
            return match[0]
        on_site = _on_site(posixpath.normpath(posixpath.join(folder, path)), anchor)
        return f"[{text}]({posixpath.relpath(on_site, page_folder or '.')})" if on_site else text

    def image(match: re.Match[str]) -> str:
        on_site = _on_site(posixpath.normpath(posixpath.join(folder, match[2])), "")
        return f"{match[1]}{posixpath.relpath(on_site or match[2], page_folder or '.')})"

    if page.file.src_uri.startswith("api/"):
        return markdown
    blocks = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        block if block.startswith("```") else _LINK.sub(link, _IMAGE.sub(image, block))
        for block in blocks
    )


def _on_site(path: str, anchor: str) -> str | None:
    """The page of the site, with anchor, for a path of the repository; None without one."""
    end = f"#{anchor}" if anchor else ""
    for page, source in PAGES.items():
        if path == source:
            return page + end
    if path.startswith("docs/"):
        return path.removeprefix("docs/") + end
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for length in (2, 1):
        package = ".".join(module.split(".")[:length])
        if (ROOT / "docs" / "api" / f"{package}.md").is_file():
            is_code = path.endswith(".py") or (ROOT / path / "__init__.py").is_file()
            return f"api/{package}.md#{module}" if is_code else None
    return None
