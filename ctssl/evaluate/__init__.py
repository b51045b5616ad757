"""From features and labels to splits, probes, tables and figures; every fitted thing stays in its fold."""
