"""Training: where batches come from, augmentation, the loop, checkpoints, weights, devices."""
