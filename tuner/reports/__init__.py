"""What a search or a comparison has come to, as pages and tables: pure functions from records and scores to text."""
