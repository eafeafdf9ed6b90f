"""Secure aggregation (Bonawitz et al. 2017): the aggregator learns the sum of the workers' updates and none of them.

What both sides need. Each worker has two key pairs for one round, X25519, and a seed, and updates are vectors of whole
numbers modulo 2^64. For workers u < v, s_uv is what both compute from their own private and the other's public key:

    1 keys      worker u       -> all           its public keys, and SHA-256 of its seed b_u
    2 letters   worker u       -> each v        sealed: v's shares of u's masking key and of b_u; any t of n open either
    3 mask      worker u       -> aggregator    y_u = x_u + PRG(b_u) + sum over v > u of PRG(s_uv) - over v < u
    4 shares    t workers      -> aggregator    of b_u where y_u arrived, of u's masking key where it did not

The pairs' masks cancel in the sum of all y_u. Those towards a worker that vanished after step 2 are computed from its
masking key, which its letters give; the seeds' masks come off by the seeds. For no worker are both given away.

    keystream  masks from keys
    keys       key pairs, what two workers share, sealing
    shamir     secrets in shares
    messages   what is sent, as values and as bytes
    fixed      models as vectors of whole numbers

The two sides are `worker.secagg` and `server.privacy.secagg`, over Flower's messages `worker.masking` and
`server.masked`; `docs/explanation/privacy.md` says against whom it helps.
"""
