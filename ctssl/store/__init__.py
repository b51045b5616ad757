"""One patch store per scan: names and codecs (layout), writing (writer), reading (reader)."""
