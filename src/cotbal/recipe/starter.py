"""The starter recipe that `cotbal init` writes."""

from __future__ import annotations

STARTER = """\
# A cotbal recipe: everything that determines a result. Paths are relative to this file.
# Next: cotbal check recipe.yaml  ->  cotbal plan recipe.yaml  ->  cotbal run recipe.yaml

name: my-mixture                 # the run directory is runs/my-mixture
images: images                   # root of the images that the records name
on_missing_image: error          # error, or drop (counts what it drops)

# One entry per task. Records are LLaVA conversations (id, image, conversations) or Hugging Face `messages`,
# as .json, .jsonl or .parquet. Validation and test records hold one question and its answer each.
tasks:
  vqa:
    train: data/vqa_train.jsonl
    validation: data/vqa_validation.jsonl
    test: data/vqa_test.jsonl    # optional; {testA: ..., testB: ...} for several
    metric: exact_match          # exact_match, cider, box_iou, or the dotted path of a module of your own
    instruction: Answer the question using a single word or phrase.
    # choose: sum                # multiple choice: the most likely of the `options` of a record
  caption:
    train: data/caption_train.jsonl
    validation: data/caption_validation.jsonl
    test: data/caption_test.jsonl
    metric: cider
  chat:                          # text only: takes no part in the probes and trains with the mean weight, 1
    train: data/chat_train.jsonl
    balanced: false
  # reasoning:                   # no training data: only evaluated, to see what training makes the model forget
  #   validation: data/reasoning_validation.jsonl
  #   test: data/reasoning_test.jsonl

model:
  checkpoint: base               # directory of a vision-language model (safetensors), or the name of a hub model
  vision: frozen                 # frozen, full or lora, for each of the three parts
  projector: full
  language: full                 # lora needs a higher learning rate, about 2.0e-4
  lora: {rank: 16, alpha: 32}
  dtype: bfloat16                # float32 on a CPU without bfloat16
  max_length: 2048               # tokens of a record, images included

optimization:
  epochs: 1
  batch_size: 128                # records an optimizer step, over all devices
  micro_batch_size: 16           # records per device at a time; changes memory, never the result
  packing: false                 # true: several records in one row, less padding; changes time, never the result
  learning_rate: 2.0e-5
  schedule: cosine
  warmup_ratio: 0.03
  seed: 0

generation: {max_new_tokens: 64, batch_size: 32}

# What the probes see. A mini should hold at least 1000 records per task (Appendix C of the paper).
portions: {large: 1, mini: 1/32, seed: 0}

balance:
  form: standard                 # or simple (Eq. 15, 16): single-task models and the base, for free-form chat tasks
  difficulty: real               # or precise (Eq. 17): models trained on one task alone
  temperature: 0.5               # or auto: the smallest that keeps every weight inside weight_range
  weight_range: [0.5, 2.0]
  replicates: 3                  # trainings of the mini: they show the noise of training; 1 turns it off
  # seeds: [0, 1, 2]             # train every probe with each of these seeds instead: narrower intervals, more time

# response: {fraction: 1/4}      # trials of cotbal response, which measure what every weight does; see docs/steer.md
# probes: {model: {language: lora}, optimization: {learning_rate: 2.0e-4}}   # cheaper probes; check with cotbal agree
# resources: {gpus: 8, hours: 12, partition: gpu}                            # of a run; see docs/machines.md
# weightings: {dwa: {window: 25}}                                # options of the methods of cotbal compare
"""
