"""Flask views: bind, query, dump."""
