"""Environment variables with which worker processes start. Benchmarks read them where there is no Ray."""

from __future__ import annotations

# Read by glibc and OpenMP when a process starts. Training allocates and frees the same large blocks at every step;
# by default, glibc gives each back to the kernel and faults it in again (measured: docs/decisions/0007). Threads that
# spin while they wait slow down the trial beside them.
WORKER_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a process without a GPU sees none, rather than all of them
}
