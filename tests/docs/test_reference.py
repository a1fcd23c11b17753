"""What the documents name exists: functions, fields of a recipe, modules, commands, files."""

from __future__ import annotations

import importlib
import re
import tomllib

import pytest

from helpers.parsing import PAGES, ROOT, name_of, text_of

GENERATED = "cli.md"
MEASURED = sorted((ROOT / "benchmarks").rglob("*.md"))


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_named_function_exists(page: str) -> None:
    for name in re.findall(r"`(cotbal\.[\w.]+)(?:\([^`]*)?`", text_of(page)):
        assert exists(name), name


def exists(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_the_equations_page_names_a_function_for_each() -> None:
    assert len(re.findall(r"`(cotbal\.[\w.]+)`", text_of("docs/equations.md"))) >= 12


def test_the_source_refers_to_every_numbered_equation_and_to_no_other() -> None:
    """R1, R2, ... of the response and N1, N2, ... of noise; those of the paper are in its text."""
    listed = set(re.findall(r"^\| ([RN]\d+) \|", text_of("docs/equations.md"), re.MULTILINE))
    folders = [ROOT / "src" / "cotbal" / name for name in ("response", "balance", "scores")]
    source = [path.read_text(encoding="utf-8") for root in folders for path in root.glob("*.py")]
    named = set(re.findall(r"\b([RN]\d{1,2})\b", "\n".join(source)))
    assert len(listed) == 21
    assert named == listed


def test_the_recipe_page_has_every_field_and_default() -> None:
    from cotbal.recipe.schema import (
        BalanceSection,
        Generation,
        ModelSection,
        Optimization,
        Portions,
        RecipeFile,
        ResourcesSection,
        TaskSection,
    )

    page = text_of("docs/recipe.md")
    sections = {
        "## Top level": RecipeFile,
        "## `tasks.<name>`": TaskSection,
        "## `model`": ModelSection,
        "## `optimization`": Optimization,
        "## `generation`": Generation,
        "## `portions`": Portions,
        "## `balance`": BalanceSection,
        "## `resources`": ResourcesSection,
    }
    for heading, section in sections.items():
        body = page[page.index(heading) :].split("\n## ")[0]
        first_cells = re.findall(r"^\| ([^|]*) \|", body, re.MULTILINE)
        named = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
        assert named == set(section.model_fields), heading


def test_the_tree_of_the_architecture_page_is_the_tree() -> None:
    tree = re.search(r"^src/cotbal/\n(.*?)```", text_of("docs/architecture.md"), re.M | re.S).group(
        1
    )
    listed = set(re.findall(r"^  (\w+(?:\.py|/))", tree, re.MULTILINE))
    package = ROOT / "src" / "cotbal"
    files = {path.name for path in package.glob("*.py")}
    folders = {f"{path.name}/" for path in package.iterdir() if list(path.glob("*.py"))}
    assert listed == (files - {"__init__.py", "__main__.py"}) | folders


def test_the_files_that_the_architecture_page_names_exist() -> None:
    table = text_of("docs/architecture.md").split("## Where is what?")[1].split("## Tree")[0]
    names = re.findall(r"`([\w/<>]+(?:\.py|/))`", table.replace("`src/cotbal/`", ""))
    examples = [name.replace("<name>", "cider").replace("<command>", "plan") for name in names]
    assert len(examples) > 30
    missing = [name for name in examples if not (ROOT / "src/cotbal" / name).exists()]
    assert missing == []


def test_the_floors_of_the_architecture_page_are_those_that_are_checked() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    page = text_of("docs/architecture.md")
    floors = re.search(r"^```text\n(__main__.*?)```", page, re.M | re.S).group(1).splitlines()
    assert floors == contract["layers"]


def test_the_page_of_the_command_line_has_every_command_and_option() -> None:
    import cli_page
    import typer

    from cotbal.cli.app import app

    page = cli_page.page()
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        if not hasattr(command, "commands"):
            assert f"## cotbal {name}\n" in page
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(f"`{option}`" in page for option in parameter.opts)
    assert "## cotbal prepare pocket\n" in page


@pytest.mark.parametrize("page", [name_of(page) for page in [*PAGES, *MEASURED]])
def test_links_lead_to_files(page: str) -> None:
    """Not to folders: the site has none, and its strict build refuses them."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        target, _, heading = link.partition("#")
        if target.startswith(("https://", "mailto:")) or target == GENERATED:
            continue
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.is_file(), link
        if heading and file.suffix == ".md":
            assert heading in headings(file.read_text(encoding="utf-8")), link


def headings(text: str) -> set[str]:
    """What `#...` of a link may name: headings as Markdown's `toc` writes them, and objects."""
    lines = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"^#+ (.*)$", lines, re.MULTILINE)
    objects = set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    return objects | {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", name).strip().lower()) for name in named
    }


def test_the_api_page_has_every_public_name() -> None:
    import cotbal

    listed = re.findall(r"^::: ([\w.]+)$", text_of("docs/api.md"), re.MULTILINE)
    assert set(cotbal.__all__) <= {name.rpartition(".")[2] for name in listed}


def test_the_figure_of_the_comparison_shows_the_published_numbers() -> None:
    import figures

    made = figures.comparison(figures.STUDY.read_text(encoding="utf-8"))
    assert made == text_of("docs/comparison.svg")
    assert "-0.14 [-0.86, +0.52]" in made


def test_the_overview_figure_shows_what_is_known() -> None:
    import figures

    balance = {
        "units": ["a", "b"],
        "contribution": [[1.0, 0.5], [None, 1.0]],
        "weights": {"a": 0.75, "b": 1.25},
        "weight_intervals": {"a": [0.7, 0.8], "b": None},
        "noise": ["samples"],
    }
    drawn = figures.overview(balance)
    assert drawn.count(">0.75<") == drawn.count(">1.25<") == 1
    assert drawn.count(">.5<") == 1
    assert "sampling error only" in drawn
    known = figures.overview({**balance, "noise": ["samples", "training"]})
    assert "sampling error only" not in known
    assert "95 % interval" in known
    assert known.count("stroke-dasharray") < drawn.count("stroke-dasharray")


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_every_named_extra_and_script_exists(page: str) -> None:
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    named = re.findall(r'pip install "(?:cotbal|\.)\[([\w,]+)\]"', text_of(page))
    assert set(",".join(named).split(",")) - {""} <= set(extras)
    scripts = re.findall(
        r"(?<![/\w])((?:docs|benchmarks|examples|tests)/[\w/]+\.(?:py|sh))", text_of(page)
    )
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
