"""Every row of docs/threat-model.md has a test."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
# words of a row -> its test
TESTS = {
    "Python objects": "reliability/test_threats.py::test_yaml_makes_no_python_objects",
    "aliases of aliases": "unit/test_strict_yaml.py::test_hostile_yaml_is_one_error_at_once",
    "infinite numbers": "unit/test_recipe.py::test_a_wrong_value_is_named_once_and_without_jargon",
    "names of tasks that lead": "unit/test_recipe.py::test_names_that_no_file_system_would_like",
    "images called": "unit/data/test_check.py::test_images_outside_the_root_are_problems",
    "own cache |": "unit/data/test_conversations.py::test_problem",
    "JSON of thousands": "unit/data/test_formats.py::test_json_that_is_nested_deeply",
    "damaged Arrow": "unit/data/test_formats.py::test_damaged_columns_do_not_end_the_process",
    "very many pixels": "unit/data/test_images.py::test_an_image_of_very_many_pixels_is_not_decoded",
    "PostScript": "unit/data/test_images.py::test_other_formats_are_no_images_whatever_they_are_called",
    "pickled weights": "reliability/test_threats.py::test_weights_of_a_checkpoint_are_not_unpickled",
    "auto_map": "reliability/test_threats.py::test_code_of_a_checkpoint_is_not_run",
    "cluster numbers": "unit/test_scores.py::test_clusters_are_renumbered",
    "weights of 1e9": "unit/test_weights_file.py::test_what_is_too_large_is_one_error",
    "tasks whose names": "reliability/test_threats.py::test_results_of_others_read_no_other_files",
    "anything else": "reliability/test_fuzz.py::test_no_input_is_more_than_an_error",
    "HTML and scripts": "unit/report/test_report.py::test_hostile_answer_is_shown_as_text",
    "names of images elsewhere": "unit/report/test_examples.py::test_a_record_cannot_put_an_image_from_elsewhere_into_the_report",
    "shell characters": "reliability/test_threats.py::test_a_path_is_no_shell_command",
    "tokens among": "unit/executors/test_slurm_script.py::test_variables_of_the_driver_are_in_the_script",
    "key of the endpoint": "unit/cli/test_judge.py::test_the_key_is_in_no_file_and_in_nothing_that_is_shown",
    "half files": "unit/data/test_records.py::test_a_damaged_conversion_is_made_again",
}


def test_every_row_has_a_test() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    _, _, *rows = [line for line in lines if line.startswith("|")]
    without = [row for row in rows if sum(words in row for words in TESTS) != 1]
    assert not without
    assert len(rows) == len(TESTS)


def test_every_test_is_there() -> None:
    for test in TESTS.values():
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
