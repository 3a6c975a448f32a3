"""The networks of the coverage benchmark: published architectures, randomly initialised, built without a download.

A transformer whose size is free is small (2 layers, width 64); an image network is built as published, on a small image
where it allows one.
"""

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import _blocks
import torch
from torch import Tensor, nn

os.environ["HF_HUB_OFFLINE"] = "1"
VOCABULARY = 120

TORCHVISION_96 = (
    "resnet18 resnext50_32x4d vgg16_bn mobilenet_v2 mobilenet_v3_small densenet121 efficientnet_b0 googlenet"
    " inception_v3 shufflenet_v2_x1_0 squeezenet1_1 regnet_y_400mf convnext_tiny mnasnet1_0 alexnet"
)
TORCHVISION_224 = "resnet50 vit_b_16 swin_t swin_v2_t maxvit_t"
TIMM_96 = (
    "resnest14d res2net50_14w_8s skresnet18 dpn48b ghostnet_100 mobileone_s0 repvgg_a0 hrnet_w18_small dla34"
    " cspresnet50 nfnet_f0 tf_efficientnetv2_b0 mobilenetv4_conv_small ese_vovnet19b_dw hgnetv2_b0 mixnet_s rexnet_100"
    " rdnet_tiny convnextv2_atto poolformer_s12 edgenext_xx_small efficientvit_b0 repvit_m0_9 inception_next_atto"
    " pvt_v2_b0"
)
TIMM_224 = (
    "deit_tiny_patch16_224 mixer_s32_224 fastvit_t8 levit_128s xcit_nano_12_p16_224 coat_tiny tiny_vit_5m_224"
    " efficientformerv2_s0 pit_ti_224 cait_xxs24_224 eva02_tiny_patch14_224 volo_d1_224 twins_svt_small nest_tiny"
    " convit_tiny focalnet_tiny_srf hiera_tiny_224 davit_tiny gmlp_ti16_224 coatnet_pico_rw_224 gcvit_xxtiny"
    " sequencer2d_s mvitv2_tiny swiftformer_xs"
)
TIMM_OTHER = {"mobilevit_xxs": 256, "mobilevitv2_050": 256, "crossvit_tiny_240": 240}
SEGMENTATION = "deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large"
VIDEO = "r3d_18"

WIDTHS = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
GROUPED_QUERY = WIDTHS | {"num_key_value_heads": 2, "head_dim": 16}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
SPEECH = {"conv_dim": (32, 32, 32), "conv_stride": (5, 4, 4), "conv_kernel": (10, 8, 4)}
WHISPER = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128}
LANGUAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", WIDTHS),
    "albert": ("AlbertForSequenceClassification", WIDTHS | {"embedding_size": 32}),
    "distilbert": ("DistilBertForSequenceClassification", {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}),
    "t5_encoder": ("T5ForTokenClassification", T5),
    "gpt2": ("GPT2LMHeadModel", GPT),
    "opt": ("OPTForCausalLM", {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 128,
                               "word_embed_proj_dim": 64}),
    "phi": ("PhiForCausalLM", WIDTHS),
    "llama": ("LlamaForCausalLM", GROUPED_QUERY),
    "qwen3": ("Qwen3ForCausalLM", GROUPED_QUERY),
    "gemma": ("GemmaForCausalLM", GROUPED_QUERY),
}  # fmt: skip
PERCEPTION: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "vit": ("ViTForImageClassification", WIDTHS | {"image_size": 64}, (3, 64, 64)),
    "segformer": ("SegformerForImageClassification", {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
                                                      "num_attention_heads": [1, 2, 3, 4]}, (3, 64, 64)),
    "mobilevit": ("MobileViTForImageClassification", {"image_size": 64}, (3, 64, 64)),
    "whisper_encoder": ("WhisperForAudioClassification", WHISPER | {"max_source_positions": 100}, (80, 200)),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", WIDTHS | SPEECH | {"num_conv_pos_embeddings": 16}, (4000,)),
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One network: ``build`` makes it, ``examples(batch)`` its inputs.

    ``head`` is the module that keeps all its outputs: the classifier. Empty: the last linear or convolution layer.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    examples: Callable[[int], tuple[Tensor, ...]]
    head: str = ""

    def head_of(self, module: nn.Module) -> nn.Module:
        """The classifier of a network that ``build`` made."""
        layers = [child for child in module.modules() if isinstance(child, nn.Linear | nn.modules.conv._ConvNd)]
        return module.get_submodule(self.head) if self.head else layers[-1]


class Logits(nn.Module):
    """A Hugging Face model as tensor in, logits out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


class FirstOutput(nn.Module):
    """A torchvision segmentation model without its dictionary: image in, ``out`` out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)["out"]


def zoo() -> dict[str, Entry]:
    """Every network by name; nothing is built yet."""
    _declare_operators()
    entries = [*_cifar(), *_torchvision(), *_timm(), *_transformers(), *_parts()]
    named = {entry.name: entry for entry in entries}
    if len(named) != len(entries):
        raise ValueError("two networks of the zoo share a name")
    return named


def _cifar() -> Iterator[Entry]:
    for depth in (20, 56):
        yield Entry(f"cifar_resnet{depth}", "cifar", lambda depth=depth: _cifar_resnet(depth), _images(32))


def _torchvision() -> Iterator[Entry]:
    for names, size in ((TORCHVISION_96, 96), (TORCHVISION_224, 224)):
        for name in names.split():
            yield Entry(f"tv_{name}", "torchvision", lambda name=name: _vision(name), _images(size))
    for name in SEGMENTATION.split():
        yield Entry(f"tv_{name}", "torchvision", lambda name=name: _segmentation(name), _images(64))
    for name in VIDEO.split():
        yield Entry(f"tv_{name}", "torchvision", lambda name=name: _vision(name), _floats(3, 8, 48, 48))


def _timm() -> Iterator[Entry]:
    sizes = dict.fromkeys(TIMM_96.split(), 96) | dict.fromkeys(TIMM_224.split(), 224) | TIMM_OTHER
    for name, size in sizes.items():
        yield Entry(f"timm_{name}", "timm", lambda name=name: _timm_model(name), _images(size))


def _transformers() -> Iterator[Entry]:
    for name, (kind, sizes) in LANGUAGE.items():
        build = lambda kind=kind, sizes=sizes: _hugging(kind, sizes | {"vocab_size": VOCABULARY})  # noqa: E731
        yield Entry(f"hf_{name}", "transformers", build, _tokens)
    for name, (kind, sizes, shape) in PERCEPTION.items():
        build = lambda kind=kind, sizes=sizes: _hugging(kind, sizes)  # noqa: E731
        yield Entry(f"hf_{name}", "transformers", build, _floats(*shape))


def _parts() -> Iterator[Entry]:
    steps, images = _floats(12, 64), _images(32)
    recurrent = _floats(12, 32)
    yield Entry("lstm", "nn", lambda: _blocks.LastStep(nn.LSTM), recurrent)
    yield Entry("lstm_bidirectional", "nn", lambda: _blocks.LastStep(nn.LSTM, both=True), recurrent)
    yield Entry("gru", "nn", lambda: _blocks.LastStep(nn.GRU), recurrent)
    yield Entry("lstm_tagger", "nn", _blocks.Tagger, _tokens)
    yield Entry("nn_transformer_encoder", "nn", _blocks.Encoder, steps)
    yield Entry("nn_transformer_decoder", "nn", _blocks.Decoder, lambda batch: steps(batch) + steps(batch))
    yield Entry("einsum_attention", "nn", _blocks.EinsumAttention, steps)
    yield Entry("channel_shuffle", "nn", _blocks.Shuffle, images)
    yield Entry("unet", "nn", _blocks.UNet, images)
    yield Entry("autoencoder", "nn", _blocks.autoencoder, images)
    yield Entry("conv3d", "nn", _blocks.conv3d, _floats(3, 8, 16, 16))


_LIBRARIES: list[torch.library.Library] = []  # declarations last as long as their library does


def _floats(*shape: int) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda batch: (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)),)


def _images(size: int) -> Callable[[int], tuple[Tensor, ...]]:
    return _floats(3, size, size)


def _tokens(batch: int) -> tuple[Tensor, ...]:
    """Sequences of 16, none of which is the padding token of a common vocabulary."""
    return (torch.randint(5, VOCABULARY - 20, (batch, 16), generator=torch.Generator().manual_seed(batch)),)


def _cifar_resnet(depth: int) -> nn.Module:
    from autoprune.tasks.nets.resnet_cifar import cifar_resnet

    return cifar_resnet(depth).eval()


def _declare_operators() -> None:
    """Declare two detection operators, without which a torchvision that has no compiled part cannot be imported."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            _LIBRARIES[-1].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _vision(name: str, **options: Any) -> nn.Module:
    auxiliary = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return importlib.import_module("torchvision.models").get_model(name, weights=None, **auxiliary, **options)


def _segmentation(name: str) -> nn.Module:
    return FirstOutput(_vision(name, weights_backbone=None, num_classes=8))


def _timm_model(name: str) -> nn.Module:
    return importlib.import_module("timm").create_model(name, pretrained=False, num_classes=1000)


def _hugging(kind: str, sizes: dict[str, Any]) -> nn.Module:
    transformers = importlib.import_module("transformers")
    model = getattr(transformers, kind)
    config = model.config_class(**sizes, num_labels=10, use_cache=False, pad_token_id=1)
    return Logits(model(config))
