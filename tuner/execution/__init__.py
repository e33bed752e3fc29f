"""Running an experiment: its context (directory, store, cluster, journal), and a search as a story."""
