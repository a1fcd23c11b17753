"""cotbal: task weights with confidence intervals for fine-tuning vision-language models on many tasks."""
