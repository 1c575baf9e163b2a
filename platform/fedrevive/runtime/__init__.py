"""Everything that imports Ray: the session, the actors, and the executor that keeps them busy.

Ray reads the environment when it is imported, so what it must find there is set here, before any module of this
package imports it: no usage reports, no environments rebuilt under uv, no device variables rewritten for CPU actors,
one thread per worker from its first import on, workers at ordinary priority (Ray's 15 starves them on a shared
machine), nothing on standard output about workers that died (they are replaced), no record of every call for a
dashboard that is not there, and token authentication. A program that imported Ray first keeps its own settings; Ray
then asks for a token by itself.
"""

import os
import sys

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
os.environ.setdefault("RAY_event_stats", "0")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^A worker died or was killed")
if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
    os.environ["RAY_AUTH_MODE"] = "token"
