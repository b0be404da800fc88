"""Delivery status reports (RFC 3464): values, composing, parsing. No input or output, no policy."""
