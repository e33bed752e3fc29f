"""The result of a search as a page, as JSON and as lines: pure functions from its record to text."""
