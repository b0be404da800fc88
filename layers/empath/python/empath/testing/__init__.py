"""Helpers that tests and the simulator run on: in-memory ports, a manual clock, fault injectors.

Shipped with the library, so that a user's own tests of hooks and policies can stand on the same ground.
Import from the modules; nothing here is used in production.
"""
