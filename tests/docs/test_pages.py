"""The pages list what the code contains: keys of a study file, commands, packages."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from study.cli.main import app
from study.config.sections import Resources, StudyConfig

ROOT = Path(__file__).parents[2]
REQUIRED = "…"


def documented() -> dict[str, Any]:
    """The study file that docs/study-file.md shows."""
    page = (ROOT / "docs" / "study-file.md").read_text()
    block = re.search(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    content = yaml.safe_load(block[1])
    assert isinstance(content, dict)
    return content


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds; None for a plain value."""
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    sections = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
    return sections[0] if len(sections) == 1 else None


def check_section(page: dict[str, Any], section: type[BaseModel], where: str) -> None:
    """The keys are the section's fields, and the values their defaults."""
    assert set(page) == set(section.model_fields), where
    for key, field in section.model_fields.items():
        inner, written, place = section_of(field.annotation), page[key], f"{where}.{key}"
        if inner is not None and isinstance(written, dict):
            check_section(written, inner, place)
        elif where.endswith(("epsilon", "lr")) and key == "log":
            assert written is where.endswith("lr"), place
        elif field.is_required():
            assert written == REQUIRED, place
        else:
            default = field.get_default(call_default_factory=True)
            assert written == default, place
            assert type(written) is type(default), place


def test_study_file_page_has_every_key_with_its_default():
    check_section(documented(), StudyConfig, "study")
    assert StudyConfig.model_fields["resources"].default == Resources()


@pytest.mark.parametrize("key", ["most_seeds", "checkpoint_minutes", "rungs", "gamma"])
def test_a_key_that_the_page_lacks_is_noticed(key):
    page = documented()
    for section in page.values():
        if isinstance(section, dict):
            section.pop(key, None)
    with pytest.raises(AssertionError):
        check_section(page, StudyConfig, "study")


def test_readme_lists_every_command():
    section = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`logit-bias .*?) \|", section, flags=re.MULTILINE)
    listed = {
        re.sub(r"^logit-bias ", "", code).split()[0]
        for row in rows
        for code in re.findall(r"`([^`]+)`", row)
    }
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    commands = {
        command.name or command.callback.__name__.replace("_", "-")
        for group in groups
        if group is not None
        for command in group.registered_commands
        if command.callback is not None
    }
    assert listed == commands


def test_every_package_has_an_api_page():
    packages = {
        ".".join(file.parent.relative_to(ROOT).parts[:2])
        for name in ("study", "trainables", "analysis")
        for file in ROOT.glob(f"{name}/*/**/*.py")
    }
    pages = {file.stem for file in ROOT.glob("docs/api/*.md")}
    assert packages <= pages
    navigation = (ROOT / "mkdocs.yml").read_text()
    index = (ROOT / "docs" / "api" / "index.md").read_text()
    for page in pages - {"index"}:
        assert f"api/{page}.md" in navigation
        assert f"({page}.md)" in index


@pytest.mark.parametrize("package", ["trainables", "analysis"])
def test_modules_beside_packages_are_in_the_api_reference(package):
    page = (ROOT / "docs" / "api" / f"{package}.md").read_text()
    listed = set(re.findall(rf"^::: {package}\.(\w+)$", page, flags=re.MULTILINE))
    assert listed == {file.stem for file in ROOT.glob(f"{package}/*.py")} - {"__init__"}
