"""TRL's SFTTrainer with task weights: TaskWeightedSFTTrainer in its place.

    python examples/trl_sft.py CHECKPOINT ROWS.jsonl WEIGHTS.json OUT

Rows are TRL's: `images` (paths beside the file), `prompt` and `completion` (messages), and `task`.
Weights are what `cotbal balance` wrote. The checkpoint may be one of text alone; its rows have no
`images`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset, Image, List
from transformers import AutoProcessor
from trl import SFTConfig

from cotbal import read_task_weights
from cotbal.training.trainers.trl import TaskWeightedSFTTrainer

checkpoint, rows_file, weights_file, out = sys.argv[1:]
weights = read_task_weights(weights_file)
tasks = list(weights)

rows = [json.loads(line) for line in Path(rows_file).read_text(encoding="utf-8").splitlines()]
for row in rows:
    if "images" in row:
        row["images"] = [str(Path(rows_file).parent / name) for name in row["images"]]
dataset = Dataset.from_list(rows)
if "images" in dataset.column_names:
    dataset = dataset.cast_column("images", List(Image()))

trainer = TaskWeightedSFTTrainer(
    model=checkpoint,
    args=SFTConfig(
        out,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=4,
        max_length=2048,
        # TRL's default is True, which a machine without a GPU refuses
        bf16=torch.cuda.is_available(),
    ),
    train_dataset=dataset,
    processing_class=AutoProcessor.from_pretrained(checkpoint),
    tasks=tasks,
    weighting=weights,
)
trainer.train()
trainer.save_model(out)
print(f"self-check: {trainer.self_check}")
