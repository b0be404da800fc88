"""Empath: a serverless mail relay that says what happened to every message."""
