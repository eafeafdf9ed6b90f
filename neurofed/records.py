"""Names that both ends of a task know: of its records, and of entries of its configuration."""

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
"""The model, what to do with it, and the numbers reported; as in Flower's own strategies."""
CONTROL = "control"
"""Beside the model: what a rule remembers and its workers need, such as SCAFFOLD's control; back comes what changed."""
PROXIMAL_MU = "proximal-mu"
"""What FedProx's workers are told, by Flower's own name."""
UPDATE, CHANGE, LACKS, NUMBERS = "update", "change", "lacks", "numbers"
"""In place of the model and of METRICS where a codec is used: what changed on the way up, what changed on the way down,
the word that a worker does not hold what that is of, and numbers packed."""
DIGEST, MODEL_BYTES = "model-digest", "model-bytes"
"""What a task with a change says besides: the digest of the model that comes out, and how many bytes that has."""
