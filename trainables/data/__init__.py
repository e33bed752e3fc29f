"""Datasets, samples, folds, decoded images and batches."""
