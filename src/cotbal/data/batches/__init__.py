"""Records to batches: chat template, tokens, labels, order, packing, lengths."""
