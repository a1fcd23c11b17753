"""Functions that the task files beside this one name; lmms-eval imports them in its own
environment.
"""

from __future__ import annotations

from typing import Any


def pictures_only(documents: Any) -> Any:
    """The rows of SEED-Bench whose question is on one picture; reads one column, so that nothing is
    decoded.
    """
    kinds = documents["data_type"]
    return documents.select([i for i, kind in enumerate(kinds) if kind == "image"])


def science_question(
    document: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None
) -> str:
    """Hint, question and lettered choices of a row of ScienceQA."""
    asked = lmms_eval_specific_kwargs or {}
    choices = [f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(document["choices"])]
    lines = [line for line in (document["hint"], document["question"], *choices) if line]
    return f"{asked.get('pre_prompt', '')}{chr(10).join(lines)}{asked.get('post_prompt', '')}"
