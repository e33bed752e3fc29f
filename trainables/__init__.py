"""The science: data, backbones, methods and the one training loop. Knows no Ray, Optuna or MLflow."""
