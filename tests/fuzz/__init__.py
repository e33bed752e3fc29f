"""Input that no person would write on purpose: experiment files, flags, folders and journals with random mistakes."""
