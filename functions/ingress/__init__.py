"""The ingress container: `python -m functions.ingress`."""
