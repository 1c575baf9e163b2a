"""FedRevive: Reviving Stale Updates: Data-Free Knowledge Distillation for Asynchronous Federated Learning.

Askin, Roth, Sun, Joe-Wong, Joshi, Xu, arXiv 2511.00655. The last c client models teach the current server
model on samples a meta-learned generator makes; a stale update is partly replaced by what the server model
learnt from them.

    x, t         ServerState.model, .version           c        teacher_capacity
    C            FedReviveMemory.teachers              T_gen    generate_every_versions
    pi_k         FedReviveMemory.proportions           K_synth  synthesis_steps
    theta        FedReviveMemory.generator             K_KD     distill_steps
    D_KD         FedReviveMemory.pool                  eta_s    server.lr
    mixed_delta = (1 - beta(tau))*client_delta + beta(tau)*distilled_delta         (the paper's Eq. 3)

Where the paper is silent or its text and the published example differ, algorithm choices are named beside
them: labels ~ the teachers' mean proportions, the Reptile step by Adam, warm-up gates, the loss guard. The phases
are in fedrevive_phases.py, the controls that distil nothing in weight_pull.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fedrevive.algorithms import weight_pull
from fedrevive.algorithms.aggregation import Contribution, Upload, aggregating
from fedrevive.algorithms.blending import added, blended
from fedrevive.algorithms.fedrevive_phases import (
    NEVER,
    FedReviveMemory,
    Workshop,
    add_to_pool,
    admit,
    distilled,
    prepared,
    remembered,
    true_proportions,
)
from fedrevive.algorithms.sample_kinds import first_pool, sample_generator
from fedrevive.algorithms.server_algorithm import ServerAlgorithm, ServerContext, ServerState
from fedrevive.core.beta_rule import configured_beta_rule
from fedrevive.core.diagnostics import mean_correlation, mean_entropy
from fedrevive.core.distillation import Distilled
from fedrevive.core.flops import ArrivalWork, arrival_flops
from fedrevive.core.generator import GeneratorState, initial_state
from fedrevive.core.loss_guard import LossGuard
from fedrevive.core.messages import StepInfo
from fedrevive.core.probe_log import ProbeLog, empty_log
from fedrevive.core.sample_generator import SampleGenerator
from fedrevive.core.synthesis import Round
from fedrevive.core.synthetic_pool import SyntheticPool
from fedrevive.core.teachers import Ensemble, Teacher
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import DistillationReviver, FedReviveSettings

MEMORY_TYPES = (
    FedReviveMemory,
    Teacher,
    ProbeLog,
    GeneratorState,
    SyntheticPool,
    weight_pull.WeightPullMemory,
)


def build(config: ExperimentConfig, context: ServerContext) -> ServerAlgorithm:
    """FedRevive, or one of its controls.

    Raises:
        ValueError: the samples' size does not suit the augmentation or the prompts.
    """
    settings = config.algorithm
    assert isinstance(settings, FedReviveSettings)
    if not isinstance(settings.reviver, DistillationReviver):
        return weight_pull.build(config, settings, settings.reviver, context)
    workshop = prepared(config, settings, context)
    generator = _learning(None if workshop.synthesis is None else workshop.synthesis.generator)
    pool = first_pool(settings, context, workshop.student)

    def initial_memory() -> FedReviveMemory:
        log = empty_log(context.classes, context.device)
        return FedReviveMemory((), (), (), log, generator, pool, {}, NEVER)

    return aggregating(config, context, partial(contribution, workshop), initial_memory)


def forked(
    config: ExperimentConfig, context: ServerContext, state: ServerState, staleness: Sequence[int]
) -> ServerState:
    """See `algorithms.forked_state`. What no run has touched yet is made anew: it follows its own settings."""
    settings, rule = config.algorithm, configured_beta_rule(config)
    assert isinstance(settings, FedReviveSettings)
    assert rule is not None
    memory: FedReviveMemory | weight_pull.WeightPullMemory = replace(
        state.memory,
        observed=rule.remembered(staleness),
        teachers=state.memory.teachers[: settings.teacher_capacity],
    )
    if isinstance(memory, FedReviveMemory) and memory.generated_version == NEVER:
        network = context.new_model()
        memory = replace(
            memory,
            generator=_learning(sample_generator(settings, context, network)),
            pool=first_pool(settings, context, network),
        )
    return replace(state, memory=memory)


def _learning(generator: SampleGenerator | None) -> GeneratorState | None:
    """The initial state of a generator that has one."""
    return None if generator is None or not generator.learns else initial_state(generator.theta)


def contribution(workshop: Workshop, state: ServerState, upload: Upload) -> Contribution:
    """One arrival: admit the teacher, perhaps add to the pool, perhaps distil, blend (algorithm.md §1.2)."""
    settings, context, gate = workshop.settings, workshop.context, workshop.gates
    beta, observed = workshop.beta.evaluate(state.memory.observed, upload.info.staleness)
    memory, ensemble, probed = admit(workshop, state, replace(state.memory, observed=observed), upload)
    guard = LossGuard(memory.loss_windows, settings.loss_guard)
    made, learnt, asked = None, None, None
    adversarial = gate.adversarial(state.version) and settings.weights.adversarial > 0
    if gate.revives(beta) and gate.synthesises(state.version, memory.generated_version):
        memory, made = add_to_pool(workshop, state, memory, ensemble, guard, adversarial)
    distils = gate.revives(beta) and gate.distils(state.version) and gate.completes(state.pending)
    distils = distils and (len(memory.pool) > 0 or settings.distill_steps == 0)
    if distils:
        memory, ensemble, asked = remembered(workshop, memory, ensemble)
        learnt = distilled(workshop, _start(workshop, state, upload), state, memory, ensemble, guard)
    work = ArrivalWork(
        teachers=len(memory.teachers),
        probed=probed,
        synthesised=made is not None,
        adversarial=adversarial,
        distilled=distils,
        asked=asked,
    )
    delta, info = _mixed(workshop, upload, learnt, beta)
    info = _described(info, made)
    if gate.asks_teachers(state.version):
        info = _measured(workshop, info, memory, ensemble)
    info = replace(
        info,
        pool_size=len(memory.pool),
        server_flops=arrival_flops(work, settings, context.forward_flops, context.input_shape),
    )
    return Contribution(delta, info, replace(memory, loss_windows=guard.windows))


def _start(workshop: Workshop, state: ServerState, upload: Upload) -> Tensor:
    """Where the student starts [P + S]: the server model, or where the version's raw step would take it."""
    if not workshop.gates.stepped:
        return state.model
    count = workshop.context.spec.parameter_count
    total = upload.delta if state.delta_sum is None else state.delta_sum + upload.delta
    parameters = state.model[:count] + workshop.server_lr * (total / workshop.gates.updates_per_version)
    return torch.cat([parameters, state.model[count:]])


def _mixed(
    workshop: Workshop, upload: Upload, learnt: Distilled | None, beta: float
) -> tuple[Tensor, StepInfo]:
    """Mixed delta [P]; a stepped student's delta is scaled so that the server's step adds it whole."""
    delta = None if learnt is None else learnt.delta
    if workshop.gates.stepped:
        mixed, info = added(upload, delta, workshop.gates.updates_per_version / workshop.server_lr)
    else:
        mixed, info = blended(upload, delta, beta)
    if learnt is None or info.distilled_delta_norm is None:
        return mixed, info
    return mixed, replace(info, distill_loss=learnt.loss, teacher_agreement=learnt.agreement)


def _described(info: StepInfo, done: Round | None) -> StepInfo:
    if done is None or done.samples is None:
        return info
    return replace(
        info,
        synthesis_loss=done.losses["total"],
        onehot_loss=done.losses.get("onehot"),
        feature_loss=done.losses.get("feature_stats"),
        adversarial_loss=done.losses.get("adversarial"),
    )


def _measured(workshop: Workshop, info: StepInfo, memory: FedReviveMemory, ensemble: Ensemble) -> StepInfo:
    """Diagnostics of the teachers, with those that need an oracle where the server has one."""
    oracle, accuracy = workshop.context.oracle, workshop.ensemble_accuracy
    info = replace(info, teachers=len(memory.teachers), proportion_entropy=mean_entropy(ensemble.proportions))
    if oracle is not None:
        true = true_proportions(oracle, memory.teachers)
        info = replace(info, proportion_correlation=mean_correlation(ensemble.proportions, true))
    if accuracy is not None:
        info = replace(info, ensemble_accuracy=accuracy.measure(memory.teachers, ensemble.models))
    return info
