"""Every row of docs/threat-model.md has a test."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
# file -> words of a row -> its test
TESTS = {
    "reliability/test_threats.py": {
        "Python objects": "test_yaml_makes_no_python_objects",
        "pickled weights": "test_weights_of_a_checkpoint_are_not_unpickled",
        "auto_map": "test_code_of_a_checkpoint_is_not_run",
        "tasks whose names": "test_results_of_others_read_no_other_files",
        "shell characters": "test_a_path_is_no_shell_command",
    },
    "unit/test_strict_yaml.py": {
        "aliases of aliases": "test_hostile_yaml_is_one_error_at_once",
    },
    "unit/test_recipe.py": {
        "infinite numbers": "test_a_wrong_value_is_named_once_and_without_jargon",
        "names of tasks that lead": "test_names_that_no_file_system_would_like",
    },
    "unit/data/test_check.py": {
        "images called": "test_images_outside_the_root_are_problems",
    },
    "unit/data/test_conversations.py": {
        "own cache |": "test_problem",
    },
    "unit/data/test_formats.py": {
        "JSON of thousands": "test_json_that_is_nested_deeply",
        "damaged Arrow": "test_damaged_columns_do_not_end_the_process",
    },
    "unit/data/test_images.py": {
        "very many pixels": "test_an_image_of_very_many_pixels_is_not_decoded",
        "PostScript": "test_other_formats_are_no_images_whatever_they_are_called",
    },
    "unit/test_scores.py": {
        "cluster numbers": "test_clusters_are_renumbered",
    },
    "unit/test_weights_file.py": {
        "weights of 1e9": "test_what_is_too_large_is_one_error",
    },
    "reliability/test_fuzz.py": {
        "anything else": "test_no_input_is_more_than_an_error",
    },
    "unit/report/test_report.py": {
        "HTML and scripts": "test_hostile_answer_is_shown_as_text",
    },
    "unit/report/test_examples.py": {
        "names of images elsewhere": "test_images_from_elsewhere_are_not_in_the_report",
    },
    "unit/executors/test_slurm_script.py": {
        "tokens among": "test_variables_of_the_driver_are_in_the_script",
    },
    "unit/cli/test_judge.py": {
        "key of the endpoint": "test_the_key_is_in_no_file_and_in_nothing_that_is_shown",
    },
    "unit/data/test_records.py": {
        "half files": "test_a_damaged_conversion_is_made_again",
    },
}
WORDS = [words for tests in TESTS.values() for words in tests]


def test_every_row_has_a_test() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    _, _, *rows = [line for line in lines if line.startswith("|")]
    without = [row for row in rows if sum(words in row for words in WORDS) != 1]
    assert not without
    assert len(rows) == len(WORDS)


def test_every_test_is_there() -> None:
    for file, tests in TESTS.items():
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert set(tests.values()) <= names, file
