"""What is read from PostgreSQL: the connection, the pool, the snapshot, and what makes a snapshot trustworthy."""
