"""cotbal: task weights with confidence intervals for fine-tuning vision-language models on many
tasks.
"""

from __future__ import annotations

import logging

# On CPUs bitsandbytes asks for a package that would fetch code from the hub, and does without: one
# line that nobody needs to read. It is said when bitsandbytes is imported, which peft does by
# itself, so it is hidden first of all.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda line: "kernels-community" not in line.getMessage()
)
