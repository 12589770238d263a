"""Training: records to device batches, the loop, checkpoints, evaluation."""
