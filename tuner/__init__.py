"""The service: searches, their records, and the only home of Ray, Optuna and MLflow."""
