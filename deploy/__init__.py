"""Where the service runs: images, manifests, launchers, and the command that submits a search to a cluster."""
