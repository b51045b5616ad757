"""From a scan to a patch store: volume, mask, atlas, registration, landmarks, graph, quality."""
