"""The columns of a made-up host, as every row of a benchmark has them."""

HOST = {
    "date": "2026-01-02 03:04",
    "cpu": "a CPU",
    "cores": 2,
    "threads": 2,
    "isa": "avx2",
    "torch": "2",
    "torchjd": "0",
}
