"""JSON files that later steps trust: a digest of their content is among their entries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotbal.errors import RunError

SEAL = "sha256"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its digest."""
    as_read = json.loads(json.dumps(content))  # keys are texts
    return {**content, SEAL: _digest(as_read)}


def unsealed(content: Any, path: Path) -> Any:
    """The content without its digest, as it was sealed; content without a digest as it is.

    Args:
        content: as `json.loads` returns it.
        path: the file, for the message.

    Raises:
        RunError: the content does not have that digest.
    """
    if not isinstance(content, dict) or SEAL not in content:
        return content
    rest = {key: value for key, value in content.items() if key != SEAL}
    if content[SEAL] != _digest(rest):
        raise RunError(
            f"{path}: expected content with the digest in its entry {SEAL}; found another: the"
            " file is damaged, or was edited. `cotbal verify --repair` archives what is damaged in"
            " a run directory; then rerun the command that wrote it. If you edited it on purpose,"
            " delete that entry",
            "damaged-file",
        )
    return rest


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
