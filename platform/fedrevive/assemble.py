"""From a configuration to working parts: the only place where settings select code."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrevive.algorithms import build_algorithm
from fedrevive.algorithms.server_algorithm import Oracle, ServerContext, needs_oracle, needs_snippets
from fedrevive.core.evaluation import measure
from fedrevive.core.faults import Fault, corrupted
from fedrevive.core.gate import Gate
from fedrevive.core.local_training import ClientData, model_inputs, train_client
from fedrevive.core.messages import ClientTask, ClientUpdate, FloatVector, ModelSnapshot
from fedrevive.core.model_state import FlatModel
from fedrevive.pretrained import generator_weights
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError
from fedrevive.settings.faults import FaultSettings
from fedrevive.simulation.executor import timed_evaluation
from fedrevive.simulation.records import Evaluation
from fedrevive.simulation.server import Server
from fedrevive.simulation.server_work import forward_work
from fedrevive.tasks import task_info
from fedrevive.tasks.federated import FederatedData, Split
from fedrevive.tasks.models import build_model, forward_flops

T = TypeVar("T")


def new_model(config: ExperimentConfig, device: torch.device | str) -> FlatModel:
    """The experiment's network with its initial weights (the same in every process)."""
    return build_model(config.model, task_info(config.task), config.seed, device)


def server_device(config: ExperimentConfig) -> torch.device:
    """Where the server computes.

    Raises:
        UserError: cuda was asked for and there is none (exit code 5).
    """
    wanted = config.compute.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device: cuda, but torch sees no GPU; use auto or cpu", exit_code=5)
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def require_devices(config: ExperimentConfig) -> None:
    """Raise `UserError` (exit code 5) when a device that was asked for is not there."""
    server_device(config)
    if config.compute.client_device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.client_device: cuda, but torch sees no GPU; use cpu", exit_code=5)


def server_context(
    config: ExperimentConfig, device: torch.device, data: FederatedData | None
) -> ServerContext:
    """What an algorithm needs to know of the experiment; of `data`, what its settings ask for."""
    info = task_info(config.task)
    model = new_model(config, device)
    return ServerContext(
        new_model=lambda: new_model(config, device),
        initial_model=model.vector.clone(),
        spec=model.spec,
        input_shape=info.input_shape,
        classes=info.classes,
        mean=info.mean,
        std=info.std,
        forward_flops=forward_flops(model, info),
        device=device,
        seed=config.seed,
        oracle=_oracle(data, device) if data is not None and needs_oracle(config.algorithm) else None,
        vocabulary=info.vocabulary,
        snippets=_snippets(data, device) if data is not None and needs_snippets(config.algorithm) else None,
        generator_weights=generator_weights(config),
    )


def server(config: ExperimentConfig, data: FederatedData | None) -> Server:
    """The server of an experiment, at version 0.

    Args:
        config: the experiment.
        data: looked at only when the settings ask for an oracle or for snippets; None will do for all others.

    Raises:
        ValueError: there is no data to read what is asked for.
    """
    device = server_device(config)
    visible = server_data(config, data)
    if visible is None and _needs_data(config):
        raise ValueError(
            f"algorithm: these settings of {config.algorithm.name} need an oracle or snippets, hence data"
        )
    context = server_context(config, device, visible)
    return Server(build_algorithm(config, context), Gate(config.server.gate, context.spec), device)


def server_data(config: ExperimentConfig, data: T) -> T | None:
    """What of `data` (itself, or a reference to it) the server may have: nothing, unless it is an oracle or reads the
    task's public snippets.
    """
    return data if _needs_data(config) else None


def _needs_data(config: ExperimentConfig) -> bool:
    return needs_oracle(config.algorithm) or needs_snippets(config.algorithm)


def client_trainer(config: ExperimentConfig, data: FederatedData) -> ClientTrainer:
    """The client side of an experiment.

    Raises:
        UserError: compute.client_device is cuda and there is none (exit code 5).
    """
    require_devices(config)
    device = torch.device(config.compute.client_device)
    info = data.info
    mean, std = torch.tensor(info.mean, device=device), torch.tensor(info.std, device=device)
    clients = ClientData(
        inputs=_stored(data.train).to(device),
        labels=_tensor(data.train.labels).to(device),
        client_indices=_tensor(data.client_indices).to(device),
        mean=mean,
        std=std,
    )
    return ClientTrainer(
        config=config,
        model=new_model(config, device),
        data=clients,
        flipped=replace(clients, labels=info.classes - 1 - clients.labels),
        test=_measured(data.test, clients),
        validation=_measured(data.validation, clients),
    )


@dataclass(frozen=True)
class ClientTrainer:
    """Trains any client, with its job's fault, and measures any server model; one module, data loaded once."""

    config: ExperimentConfig
    model: FlatModel
    data: ClientData
    flipped: ClientData
    """The same samples with label classes - 1 - y in place of y."""
    test: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]

    def train(self, base: ModelSnapshot, task: ClientTask) -> ClientUpdate:
        """Train one client from `base`."""
        algorithm, settings = self.config.algorithm, self.config.client
        steps = base.local_steps.get(task.client_id)
        if steps is not None:
            settings = settings.model_copy(update={"local_steps": steps})
        update = train_client(
            self.model,
            base.model,
            self.flipped if task.fault is Fault.LABEL_FLIP else self.data,
            task,
            settings,
            seed=self.config.seed,
            proximal=algorithm.proximal if algorithm.name == "fedasync" else 0.0,
        )
        factor = _delta_factor(self.config.faults, task.fault)
        if factor is None:
            return update
        model = corrupted(update.model, base.model, self.model.spec, factor)
        return replace(update, model=model)

    def evaluate(self, model: FloatVector) -> Evaluation:
        """Measure a server model [P + S] on the test and validation splits."""
        self.model.load_array(model)
        return timed_evaluation(
            lambda: (measure(self.model, *self.test), measure(self.model, *self.validation)),
        )


def _delta_factor(faults: FaultSettings, fault: Fault) -> float | None:
    """What the client delta is multiplied by; None for a job whose upload is left as it is."""
    match fault:
        case Fault.NAN:
            return float("nan")
        case Fault.EXPLOSION:
            assert faults.explosion is not None
            return faults.explosion.factor
        case Fault.SIGN_FLIP:
            assert faults.sign_flip is not None
            return -faults.sign_flip.factor
        case _:
            return None


def _oracle(data: FederatedData, device: torch.device) -> Oracle:
    return Oracle(
        class_histograms=_tensor(data.class_histograms()).to(device),
        kd_inputs=_tensor(data.kd.inputs).to(device),
        kd_labels=_tensor(data.kd.labels).to(device),
    )


def _snippets(data: FederatedData, device: torch.device) -> tuple[Tensor, Tensor]:
    assert data.snippets is not None, "every task of texts has snippets"
    texts, classes = _tensor(data.snippets.inputs), _tensor(data.snippets.labels)
    return texts.long().to(device), classes.to(device)


def sample_flops(config: ExperimentConfig) -> float:
    """Operations of training on one sample: forward and backward (2 forwards)."""
    return 3.0 * forward_work(config)[0]


def client_flops(config: ExperimentConfig) -> float:
    """Operations of one client job of client.local_steps steps."""
    return sample_flops(config) * config.client.local_steps * config.client.batch_size


def _measured(split: Split, clients: ClientData) -> tuple[Tensor, Tensor]:
    inputs = model_inputs(_stored(split).to(clients.inputs.device), clients.mean, clients.std)
    return inputs, _tensor(split.labels).to(clients.inputs.device)


def _stored(split: Split) -> Tensor:
    """Images channels last, [n, H, W, C]; token ids [n, L] as they are."""
    inputs = _tensor(split.inputs)
    return inputs.permute(0, 2, 3, 1).contiguous() if inputs.dim() == 4 else inputs


def _tensor(array: NDArray) -> Tensor:  # type: ignore[type-arg]
    """A tensor over `array` without a copy; arrays from the object store are read-only and are only read here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
