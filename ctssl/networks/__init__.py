"""Networks: tensors in, tensors out; they know no scans, no disk and no training."""
