"""Column schemas of every table on disk: explicit types, nullability, units and descriptions.

Times named `*_at` or `virtual_time` of a run's own tables are integer virtual nanoseconds (1 virtual time
unit = 1e9); only `timings` knows the real clock. Our choice throughout.
"""

from __future__ import annotations

import pyarrow as pa

from fedrevive import __version__

SCHEMA_VERSION = "1"
NANOSECONDS_PER_UNIT = 1_000_000_000

_I, _F, _S, _B = pa.int64(), pa.float64(), pa.string(), pa.bool_()


def _field(name: str, kind: pa.DataType, unit: str, description: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": description})


def _absent(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return _field(name, kind, unit, description + "; null when it does not apply", nullable=True)


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={"schema_version": SCHEMA_VERSION, "platform_version": __version__})


ARRIVALS = _schema(
    _field("sequence", _I, "count", "order of acceptance: 0, 1, 2, ...; rejected uploads have none"),
    _field("job", _I, "count", "number of the dispatch that this upload answers"),
    _field("client", _I, "id", "client that trained"),
    _field("dispatched_at", _I, "ns virtual", "when the client received the base model"),
    _field("arrives_at", _I, "ns virtual", "when the upload reached the server"),
    _field(
        "accepted_at",
        _I,
        "ns virtual",
        "when the server had applied it; later than arrives_at only with server.charge_time",
    ),
    _field("base_version", _I, "versions", "server version the client started from"),
    _field("server_version", _I, "versions", "server version at acceptance, before its own aggregation"),
    _field("new_version", _I, "versions", "server version afterwards"),
    _field("staleness", _I, "versions", "server_version - base_version"),
    _absent("beta", _F, "share", "share of the distilled delta in the mixed delta"),
    _absent(
        "staleness_weight",
        _F,
        "factor",
        "factor on the client delta: s(tau), AsyncFedED's 1/(gamma + eps), PORT's weight",
    ),
    _field("client_delta_norm", _F, "L2", "norm of trained minus base parameters"),
    _absent("distilled_delta_norm", _F, "L2", "norm of student minus current parameters"),
    _absent("delta_cosine", _F, "cosine", "cosine between client delta and distilled delta"),
    _absent("distill_loss", _F, "nats", "mean KL divergence over the distillation steps"),
    _absent("synthesis_loss", _F, "nats", "weighted total at the best synthesis step"),
    _absent("onehot_loss", _F, "nats", "teachers' cross-entropy on the intended labels"),
    _absent("feature_loss", _F, "distance", "distance to the teachers' feature statistics"),
    _absent("adversarial_loss", _F, "nats", "disagreement of teachers and student, negated"),
    _absent("teachers", _I, "count", "teachers in the buffer, this one included, once they may be asked"),
    _absent("pool_size", _I, "samples", "pseudo-samples in the pool"),
    _absent(
        "proportion_entropy", _F, "nats", "entropy of the teachers' class proportions, mean over teachers"
    ),
    _absent("proportion_correlation", _F, "correlation", "class proportions with true ones, mean (oracle)"),
    _absent("teacher_agreement", _F, "share", "pool samples asked about on which all teachers agree"),
    _absent("ensemble_accuracy", _F, "share", "correct mean answers of the teachers on KD images (oracle)"),
    _field("train_loss", _F, "nats", "mean loss over the client's local steps"),
    _field("samples", _I, "samples", "samples the client passed through its model"),
    _field("client_flops", _F, "FLOP", "client's floating-point operations, multiply-add = 2"),
    _field("server_flops", _F, "FLOP", "server's synthesis, distillation and probing, multiply-add = 2"),
)

EVALUATIONS = _schema(
    _field("arrivals", _I, "count", "uploads so far, accepted or rejected"),
    _field("version", _I, "versions", "server version that was measured"),
    _field("virtual_time", _I, "ns virtual", "when that version was the current one"),
    _field("test_accuracy", _F, "share", "correct test samples"),
    _field("test_loss", _F, "nats", "mean cross-entropy on the test part"),
    _field("validation_accuracy", _F, "share", "correct validation samples"),
    _field("validation_loss", _F, "nats", "mean cross-entropy on the validation part"),
)

EVENTS = _schema(
    _field("sequence", _I, "count", "order of the events: 0, 1, 2, ..."),
    _field("virtual_time", _I, "ns virtual", "when it happened"),
    _field(
        "kind",
        _S,
        "name",
        "rejected (by the gate), distillation (delta not finite, raw update taken), or a simulated fault: dropout, "
        "crash, late, duplicate, nan, explosion, sign_flip, label_flip",
    ),
    _absent("client", _I, "id", "client concerned"),
    _absent("job", _I, "count", "dispatch concerned"),
    _field("reason", _S, "text", "why, in one line"),
)

TIMINGS = _schema(
    _field("kind", _S, "name", "train, apply (server step) or evaluate"),
    _absent("sequence", _I, "count", "arrival concerned"),
    _field("worker", _S, "name", "process that did the work"),
    _field("host", _S, "name", "machine it ran on"),
    _field("started_at", _F, "s unix", "real time at the start"),
    _field("duration_ms", _F, "ms", "real duration"),
    _field("cpu_ms", _F, "ms", "processor time"),
)

RUNS = _schema(
    _field("label", _S, "name", "what is compared: an algorithm or a trial"),
    _field("configuration", _S, "overrides", "the point of the label's grid; empty without a grid"),
    _absent("follows", _S, "label", "whose selected configuration a control takes; null for a competitor"),
    _field("oracle", _B, "flag", "the model depends on data that a real server could not see"),
    _field("selected", _B, "flag", "the configuration its label is judged by; chosen on validation accuracy"),
    _absent("validation_accuracy", _F, "share", "mean of the last validation accuracies, see final_accuracy"),
    _field("algorithm", _S, "name", "algorithm.name"),
    _field("seed", _I, "seed", "seed of the run"),
    _field("run_id", _S, "id", "run id: the folder below runs/"),
    _field("status", _S, "name", "how the run ended"),
    _field("arrivals", _I, "count", "uploads, accepted or rejected"),
    _field("versions", _I, "versions", "last server version"),
    _field("virtual_time", _F, "units", "virtual time at the end"),
    _absent(
        "final_accuracy",
        _F,
        "share",
        "mean test accuracy over the last 10 * evaluation.every_arrivals arrivals",
    ),
    _absent("best_accuracy", _F, "share", "largest test accuracy"),
    _absent("auc", _F, "share", "time-average of the test accuracy"),
    _absent("time_to_target", _F, "units", "virtual time until the moving average reached the target"),
    _absent("censored", _B, "flag", "a target was set and the run ended before it was reached"),
    _field("wall_seconds", _F, "s", "real duration of the run"),
    _field("client_cpu_seconds", _F, "s", "processor time of local training, measured"),
    _field("server_cpu_seconds", _F, "s", "processor time of the server steps, measured"),
    _field("client_flops", _F, "FLOP", "sum over all accepted uploads"),
    _field("server_flops", _F, "FLOP", "sum over all server steps"),
    _absent("arrivals_hash", _S, "sha256", "content hash of the arrivals table"),
    _absent("evaluations_hash", _S, "sha256", "content hash of the evaluations table"),
    _absent("model_hash", _S, "sha256", "content hash of the final model"),
)

BENCHMARK = _schema(
    _field("workload", _S, "name", "what was measured (docs/performance.md)"),
    _field("code", _S, "name", "its short form"),
    _field("metric", _S, "name", "one property of the workload; efficiency = ceiling / ours"),
    _field("unit", _S, "name", "of ours and reference"),
    _field("ours", _F, "see unit", "median over the repetitions"),
    _field("ours_min", _F, "see unit", "smallest"),
    _field("ours_max", _F, "see unit", "largest"),
    _absent("reference", _F, "see unit", "median of what ours is compared with"),
    _absent(
        "ratio",
        _F,
        "factor",
        "median of the ratios within a repetition; above 1 is better than the reference",
    ),
    _absent("ratio_min", _F, "factor", "smallest"),
    _absent("ratio_max", _F, "factor", "largest"),
    _field("repetitions", _I, "count", "of ours and reference, in turn"),
    _absent("checksum", _S, "sha256", "of the results, equal in all repetitions"),
    _field("device", _S, "name", "processor that trained and distilled"),
    _field("cpus", _I, "count", "processors that could be used"),
    _field("versions", _S, "name=version", "packages"),
)

TABLES: dict[str, pa.Schema] = {
    "arrivals": ARRIVALS,
    "evaluations": EVALUATIONS,
    "events": EVENTS,
    "timings": TIMINGS,
}
"""Tables of one run: folder name -> schema."""

SORT_KEYS = {"arrivals": "sequence", "evaluations": "arrivals", "events": "sequence"}
"""Column that orders a table; `timings` keeps the order in which rows were appended."""
