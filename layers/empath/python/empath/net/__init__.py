"""The only room that opens outbound sockets: the dialer to next hops, and the DNS resolver."""
