"""Trained models in use: which model, which photographs, what it says of them."""
