"""Abstract-48S, candidates B: 200 captions with 48 references each.

Golden values: CIDEr of pycocoevalcap 1.2, for the texts as released and after its PTB tokenizer
(Java 17).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cotbal.scores.measure import measure

pytestmark = pytest.mark.needs("real_data")
TOTALS = {"raw": 0.4619376343589234, "ptb": 0.7092218749381566}
TEXTS = {"raw": ("rawp", "raw"), "ptb": ("tokp", "tok")}


@pytest.mark.parametrize("form", TOTALS)
def test_scores_are_those_of_the_reference(real: Path, form: str) -> None:
    content = json.loads((real / "cider" / "abstract48S_candsB.json").read_text(encoding="utf-8"))
    candidates, references = (content[key] for key in TEXTS[form])
    assert {len(texts) for texts in references} == {48}
    scores = measure("cider", candidates, references).values
    assert scores == pytest.approx(content[f"{form}_each"], abs=1e-9)
    assert scores.mean() == pytest.approx(TOTALS[form], abs=1e-9)
