"""Your own training script, with task weights: TaskWeightedTrainer in place of Trainer.

    python examples/own_trainer.py CHECKPOINT RECORDS.jsonl IMAGES WEIGHTS.json OUT

Records are LLaVA conversations with a field `task`; weights are what `cotbal balance` wrote.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForImageTextToText, AutoProcessor, TrainingArguments

from cotbal import read_task_weights
from cotbal.data.batches.collate import Collator, Row
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids

checkpoint, records, images, weights_file, out = sys.argv[1:]
weights = read_task_weights(weights_file)
tasks = list(weights)

rows: list[dict[str, Any]] = [
    {"row": Row(record, record.task or "", None), "task": record.task}
    for record in open_records(Path(records), default_cache())
]
processor = AutoProcessor.from_pretrained(checkpoint)
collator = Collator(
    processor, Path(images), max_length=2048
)  # or your own: it must give labels of -100 on the prompt

trainer = TaskWeightedTrainer(
    model=AutoModelForImageTextToText.from_pretrained(checkpoint),
    args=TrainingArguments(
        out, per_device_train_batch_size=4, gradient_accumulation_steps=4, report_to="none"
    ),
    train_dataset=rows,
    data_collator=with_task_ids(
        lambda batch: collator.training([item["row"] for item in batch]), tasks
    ),
    tasks=tasks,
    weighting=weights,
)
trainer.train()
trainer.save_model(out)
print(f"self-check: {trainer.self_check}")
