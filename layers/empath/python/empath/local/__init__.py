"""The local stack: the real templates on an embedded AWS, the ingress, and an internet to send to."""
