"""The password of every benchmark user, and the hasher of the two peers, with the project's parameters."""

from argon2 import PasswordHasher

PASSWORD = "the horse of the benchmarks"

hasher = PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1)  # KiB
