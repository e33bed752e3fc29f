"""What a finished comparison looks like: pure functions from scores to tables, and from tables to text."""
