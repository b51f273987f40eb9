"""Items: the example of a resource that belongs to its user, which new resources copy."""
