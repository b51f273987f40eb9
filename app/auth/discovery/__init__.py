"""The documents from which clients learn of this service by themselves."""
