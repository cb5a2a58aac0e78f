"""The reckoning: how many bytes a llama-server needs, on each GPU and on the host, before it is started."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.llama.compute_buffers import Work, output_bytes, output_only_bytes, work_of
from supervisor.llama.kv_cache import LayerCache, caches_of
from supervisor.llama.model import Model
from supervisor.llama.placement import HOST, places_of
from supervisor.llama.settings import Context, Settings, context_of

# What CUDA takes on a GPU before the first tensor: a stated figure, not measured. ollama keeps 457 MiB.
CUDA_CONTEXT_BYTES: Final = 512 << 20
# An idle llama-server beside its buffers: 6 MB anonymous of 24 MB resident; CUDA's libraries take more.
PROCESS_BYTES: Final = 64 << 20


class DeviceNeed(Struct, frozen=True):
    """What one GPU has to hold."""

    weights_bytes: int = 0
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    staging_bytes: int = 0  # a weight of the host's, on its way through the GPU in a long batch
    mmproj_bytes: int = 0
    context_bytes: int = CUDA_CONTEXT_BYTES

    @property
    def total_bytes(self) -> int:
        """Return all of it."""
        held = self.weights_bytes + self.kv_bytes + self.state_bytes + self.compute_bytes
        return held + self.staging_bytes + self.mmproj_bytes + self.context_bytes


class HostNeed(Struct, frozen=True):
    """What the machine has to hold. Mapped weights are pages of the file, which no `memory.cap` counts."""

    weights_bytes: int = 0
    is_mapped: bool = True
    kv_bytes: int = 0
    state_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0
    mmproj_bytes: int = 0
    prompt_cache_bytes: int = 0  # as large as it may grow
    process_bytes: int = PROCESS_BYTES

    @property
    def own_bytes(self) -> int:
        """Return what is the process's own: what `memory.cap` counts."""
        held = self.kv_bytes + self.state_bytes + self.compute_bytes + self.output_bytes + self.mmproj_bytes
        return (
            held
            + self.prompt_cache_bytes
            + self.process_bytes
            + (0 if self.is_mapped else self.weights_bytes)
        )

    @property
    def total_bytes(self) -> int:
        """Return what has to stay in RAM for the server to be quick, mapped weights included."""
        return self.own_bytes + (self.weights_bytes if self.is_mapped else 0)


class Need(Struct, frozen=True):
    """What a server needs: one entry for each GPU in use (`Settings.shares`), and the host."""

    devices: tuple[DeviceNeed, ...]
    host: HostNeed


def need(model: Model, settings: Settings) -> Need:
    """Reckon what a llama-server with this model and these settings takes. Pure.

    Weights: src/llama-model.cpp (load_tensors): layers where they are placed, output and output norm with the
    last place, a second copy of the embedding there where it is tied; the embedding itself, and the experts
    of the first cpu_moe_layers, on the host. Caches lie with their layers, or on the host without kv_offload.
    mmproj lies on the first GPU (tools/server: mmproj_use_gpu). Raises ValueError where settings are
    impossible.
    """
    shape = model.shape
    context = context_of(shape, settings)
    places = places_of(shape, settings)
    plan = _Plan(model, settings, context, places, caches_of(shape, settings, context))
    used = len(settings.shares) if any(place != HOST for place in places) else 0
    return Need(tuple(_device(plan, index) for index in range(used)), _host(plan))


class _Plan(Struct, frozen=True):
    model: Model
    settings: Settings
    context: Context
    places: tuple[int, ...]  # of each layer and, last, of the output
    caches: tuple[LayerCache, ...]

    def layers_on(self, place: int) -> list[int]:
        return [layer for layer, each in enumerate(self.places[:-1]) if each == place]

    def work(self, layers: Sequence[int]) -> Work:
        return work_of(self.model.shape, self.settings, self.context, layers)


def _device(plan: _Plan, index: int) -> DeviceNeed:
    here = plan.layers_on(index)
    weights = sum(_on_gpu(plan, layer) for layer in here)
    kept = [plan.caches[layer] for layer in here] if plan.settings.kv_offload else []
    return DeviceNeed(
        weights_bytes=weights + (_output(plan.model) if plan.places[-1] == index else 0),
        kv_bytes=sum(cache.kv_bytes for cache in kept),
        state_bytes=sum(cache.state_bytes for cache in kept),
        compute_bytes=_device_compute(plan, here, is_output=plan.places[-1] == index),
        staging_bytes=_staging(plan),
        mmproj_bytes=plan.settings.mmproj_bytes if index == 0 else 0,
    )


def _host(plan: _Plan) -> HostNeed:
    weights = plan.model.weights
    here = plan.layers_on(HOST)
    everywhere = range(len(weights.layers))
    held = (
        weights.embedding_bytes
        + weights.other_bytes
        + sum(weights.layers[layer].size_bytes for layer in here)
    )
    held += sum(
        weights.layers[layer].size_bytes - _on_gpu(plan, layer) for layer in everywhere if layer not in here
    )
    kept = [plan.caches[layer] for layer in (here if plan.settings.kv_offload else everywhere)]
    return HostNeed(
        weights_bytes=held + (weights.output_bytes if plan.places[-1] == HOST else 0),
        is_mapped=plan.settings.mmap,
        kv_bytes=sum(cache.kv_bytes for cache in kept),
        state_bytes=sum(cache.state_bytes for cache in kept),
        compute_bytes=_host_compute(plan, here),
        output_bytes=output_bytes(plan.model.shape, plan.settings),
        mmproj_bytes=plan.settings.mmproj_bytes if _is_all(plan.places, HOST) else 0,
        prompt_cache_bytes=plan.settings.cache_ram_bytes,
    )


def _on_gpu(plan: _Plan, layer: int) -> int:
    """Return what of a layer that is placed on a GPU does lie there."""
    weights = plan.model.weights.layers[layer]
    return weights.size_bytes - (weights.expert_bytes if layer < plan.settings.cpu_moe_layers else 0)


def _output(model: Model) -> int:
    return model.weights.output_bytes + (model.weights.embedding_bytes if model.weights.tied else 0)


def _device_compute(plan: _Plan, here: Sequence[int], *, is_output: bool) -> int:
    """Return what a GPU computes in; src/llama-graph.cpp (build_inp_out_ids) for the last layer."""
    if not here:
        return output_only_bytes(plan.model.shape, plan.settings, plan.context) if is_output else 0
    work = plan.work(here)
    last = len(plan.places) - 2
    if all(layer == last for layer in here):
        return work.last_only_bytes
    if all(layer == last or layer < plan.settings.cpu_moe_layers for layer in here):
        return work.attention_only_bytes
    return work.device_bytes if _is_all(plan.places[:-1], plan.places[here[0]]) else work.shared_bytes


def _host_compute(plan: _Plan, here: Sequence[int]) -> int:
    everywhere = range(len(plan.caches))
    if plan.settings.cpu_moe_layers or not plan.settings.kv_offload:
        return plan.work(everywhere).host_bytes
    inputs = plan.work(everywhere)
    if not here:
        return inputs.inputs_bytes
    return replace(plan.work(here), mask_bytes=inputs.mask_bytes).host_bytes


def _is_all(places: Sequence[int], place: int) -> bool:
    return all(each == place for each in places)


def _staging(plan: _Plan) -> int:
    """Return the largest weight that a GPU computes with though it lies on the host (op_offload).

    ggml/src/ggml-backend.cpp copies it for each batch of 32 tokens and more (ggml_backend_cuda: offload_op).
    """
    sizes = [
        layer.largest_bytes
        for index, layer in enumerate(plan.model.weights.layers)
        if plan.places[index] == HOST or index < plan.settings.cpu_moe_layers
    ]
    return max(sizes, default=0)
