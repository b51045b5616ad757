"""Features that nobody trained: of the patches of a scan, then of what is fitted inside the folds."""
