"""Items: the owned resource that every next resource copies."""
