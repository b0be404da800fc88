"""Values and rules of mail relaying. No AWS, no sockets, no clock: standard library and pydantic only."""
