"""What one job of the workflow does: settings and paths in, files out. Heavy imports stay inside."""
