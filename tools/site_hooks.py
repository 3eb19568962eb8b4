"""MkDocs hooks: pages from outside ``docs/``, their links, the leaderboard page and the commands.

The site contains some Markdown pages that lie elsewhere in the repository (`PAGES`). They keep
their repository path in the site, except that pages of ``docs/`` lose the leading ``docs/``. Links
are written as they work in the repository; this module translates them. A link to a file that is
not part of the site becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from obdbench.cli.main import app
from obdbench.reporting.site.html import read_suites, render_html

ROOT = Path(__file__).parents[1]
PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "baselines/*.md",
    "leaderboards/*.csv",
    "leaderboards/*.json",
    "leaderboards/*.md",
    "leaderboards/*/*.md",
    "leaderboards/plots/*.png",
    "leaderboards/plots/*.svg",
    "leaderboards/results/*/*.json",
)
COMMANDS = "<!-- site: commands -->"
LEADERBOARD = "<!-- site: leaderboard -->"
LEADERBOARD_PAGE = "leaderboard.html"
LEADERBOARD_LINK = (
    f"The [interactive leaderboard](../{LEADERBOARD_PAGE}) sorts and filters these results, and "
    "shows every seed, convergence curves and datasets."
)
_LINK = re.compile(
    r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]"
    r"\((?!https?:|mailto:|#)(?P<target>[^)\s]+)\)"
)
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures from outside ``docs/``, and the interactive leaderboard."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    text = render_html(read_suites(ROOT / "leaderboards" / "results"), ROOT)
    files.append(File.generated(config, LEADERBOARD_PAGE, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate the links of a page and fill in the command-line reference."""
    source = page.file.src_uri
    in_docs = (Path(config.docs_dir) / source).is_file()
    repository_path = f"docs/{source}" if in_docs else source
    known = {_site_path(file.src_uri, config): file.src_uri for file in files}
    parts = _FENCED.split(markdown)
    for index in range(0, len(parts), 2):  # odd parts are fenced code
        parts[index] = _LINK.sub(
            lambda match: _translate(match, repository_path, source, known), parts[index]
        )
    text = "".join(parts).replace(LEADERBOARD, LEADERBOARD_LINK)
    return text.replace(COMMANDS, _commands() if COMMANDS in markdown else "")


def _site_path(source: str, config: MkDocsConfig) -> str:
    """The repository path of a file of the site."""
    return f"docs/{source}" if (Path(config.docs_dir) / source).exists() else source


def _translate(
    match: re.Match[str], repository_path: str, source: str, known: dict[str, str]
) -> str:
    target, _, anchor = match["target"].partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(repository_path), target))
    if path in known:
        link = posixpath.relpath(known[path], posixpath.dirname(source) or ".")
        return f"{match['image']}[{match['text']}]({link}{f'#{anchor}' if anchor else ''})"
    if (ROOT / path).exists() and not match["image"]:
        return match["text"]
    return match[0]  # MkDocs reports the broken link


def _commands() -> str:
    """The help of every command."""
    group = typer.main.get_command(app)
    sections = []
    waiting = [("obdbench", group)]
    while waiting:
        name, command = waiting.pop(0)
        children = getattr(command, "commands", {})
        waiting += [(f"{name} {child}", value) for child, value in sorted(children.items())]
        context = command.make_context(name, [], resilient_parsing=True)
        sections.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(sections)
