"""Who may call whom: certificates, roles, join tokens, revocation.

    options      which files the user gave, and where plain text is allowed
    credentials  a CA, a certificate and its key, checked, as gRPC wants them
    identity     role and name of a caller, read from its certificate
    ca           signs certificates
    pki          the folder that `neurofed provision` keeps
    tokens       one-time join tokens: the worker's file and the aggregator's store
    enrolment    a worker exchanges its token for a certificate
    guard        the aggregator's check of every call
    revocation   the list of certificates that no longer count
    diagnosis    why a connection could not be made

`docs/explanation/security.md` says what this defends against and what it does not.
"""
