"""Many runs, and the protocol of comparison that the notebooks follow.

Methods and jobs, which jobs share a batch, and the store of finished runs.
"""
