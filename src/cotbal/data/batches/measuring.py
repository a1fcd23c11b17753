"""`python -m cotbal.data.batches.measuring PARENT` measures lengths for the process with the id
PARENT, which needs no PyTorch, and ends with it, also while it imports PyTorch itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time

LOOK_SECONDS = 0.5


def end_with(parent: int) -> None:
    """End this process when its parent has ended, from a thread."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def main() -> None:
    """Watch the parent, import, answer its questions."""
    end_with(int(sys.argv[1]))
    from cotbal.data.batches.row_lengths import answer_questions

    answer_questions()


if __name__ == "__main__":
    main()
