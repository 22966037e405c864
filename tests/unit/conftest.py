"""What makes the unit tests quick: JAX compiles much here and computes little.

Of the time that compiling a training step takes, these flags leave about a fifth. They
choose how machine code is made, not what is computed; what a user runs has none of
them. The environment, so that processes which a test starts have them too.
"""

from __future__ import annotations

import os

_QUICK = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
)
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *_QUICK)).strip()
