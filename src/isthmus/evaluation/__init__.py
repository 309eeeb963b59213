"""What a policy is worth in a domain, and how sure one can be of it."""
