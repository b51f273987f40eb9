"""Background jobs: work that is done after the request that asked for it, by a worker in this process or another.

A job is a row, written in the transaction that causes it: rolled back, it was never asked for; committed, it is done
at least once. A worker claims it for a lease, without holding a connection meanwhile; when the worker dies, another
claims the job after the lease.
"""
