"""Many runs, and the protocol of comparison that the notebooks follow.

What a method is, which jobs share a batch, how finished runs are found again.
"""
