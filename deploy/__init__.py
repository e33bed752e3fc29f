"""Ways to run the service elsewhere: images, manifests, launchers, and submission of a search to a cluster."""
