"""Datasets, sampling, folds, decoded images and batches."""
