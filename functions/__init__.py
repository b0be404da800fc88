"""The doors: each decodes, makes one call into the library, and encodes."""
