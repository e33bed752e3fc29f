"""The experiments that come with the package, as data: `smile-tuner search --space smile` finds `smile.yaml` here."""
