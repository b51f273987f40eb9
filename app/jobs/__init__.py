"""Background jobs: work that a worker, in this process or another, does after the request that asked for it.

A job is a row that is written in the transaction of the request. It is done at least once when the transaction commits,
and never when it rolls back. A worker claims a job for the time of a lease, and holds no connection meanwhile. When the
worker dies, another claims the job after the lease.
"""
