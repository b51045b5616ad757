"""Makes this folder importable, for helper modules that several rooms' tests share."""
