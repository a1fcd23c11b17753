"""500 conversations in ShareGPT's form, filtered for Vicuna.

Golden value: FastChat's `clean_sharegpt.py` keeps 294 of them, with these texts.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cotbal.benchmarks.academic.sharegpt import plan
from cotbal.benchmarks.releases.gallery import Gallery
from cotbal.benchmarks.releases.sources import Choices, Job

pytestmark = pytest.mark.needs("real_data")
KEPT = 294
DIGEST = "afc0fa9053da856f295b9ac31b783a372969e7cadb9a363dd0284726ebfe1ccd"  # of all texts


def test_the_filter_keeps_what_the_reference_keeps(real: Path, tmp_path: Path) -> None:
    (split,) = plan().splits
    source = next(source for source in split.sources if source.form == "original")
    job = Job(Choices(), Gallery(tmp_path, None), lambda what, done, total: None)
    kept = list(source.read({"dump": [real / "sharegpt" / "dummy_conversation.json"]}, job))
    assert len(kept) == KEPT
    texts = [[(turn.question, turn.answer) for turn in record.turns] for record in kept]
    assert hashlib.sha256(json.dumps(texts).encode()).hexdigest() == DIGEST
