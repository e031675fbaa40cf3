"""The host's UNets with random weights, and inputs for them."""

from typing import Any

SD15 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "legacy": False,
    "adm_in_channels": None,
}

TINY = {
    **SD15,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}


def network(name: str, device: Any, dtype: Any) -> Any:
    """A patcher of the host's model with random weights that keep activations in bounds."""
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    config = comfy.supported_models.SD15({**(SD15 if name == "sd15" else TINY), "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "", device="cpu").eval()
    source = torch.Generator().manual_seed(0)
    for key, weight in model.diffusion_model.named_parameters():
        if weight.dim() > 1:
            weight.data.copy_(
                torch.randn(weight.shape, generator=source) * (0.7 / weight[0].numel()) ** 0.5
            )
        else:
            weight.data.fill_(1.0 if key.endswith("weight") else 0.0)
    return comfy.model_patcher.ModelPatcher(model, device, torch.device("cpu"))


def inputs(patcher: Any, side: int) -> tuple[list[Any], dict[str, Any]]:
    """Those of the network itself."""
    import torch

    source = torch.Generator().manual_seed(0)
    device, dtype = patcher.load_device, patcher.model_dtype()
    context = patcher.model.model_config.unet_config["context_dim"]

    def noise(*size: int) -> Any:
        return torch.randn(*size, generator=source).to(device, dtype)

    times = torch.full((2,), 500.0, device=device)
    return [noise(2, 4, side // 8, side // 8), times], {"context": noise(2, 77, context)}
