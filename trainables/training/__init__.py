"""The one loop that every method goes through, its optimiser, evaluation and checkpoints."""
