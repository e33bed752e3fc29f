"""The science: data, backbones, methods and the training loop. Imports neither Ray nor Optuna nor MLflow.

"Trainable" is Ray's word for what Tune runs; nothing in this package is one (that is `tuner.cluster.trainable`).
"""
