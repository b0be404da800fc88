"""The environment as validated models: `functions` for the doors of Lambda, `ingress` for the listener."""
