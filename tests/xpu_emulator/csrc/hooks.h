// Registration of the emulator as torch's one accelerator.
#pragma once

namespace xpu_emulator {

// Makes torch's XPU hooks ours and its CUDA hooks those of a torch without CUDA.
// Raises RuntimeError when torch has already created its own XPU hooks.
// With `beside_cuda` CUDA stays torch's accelerator: torch knows one only.
void register_hooks(bool beside_cuda);

} // namespace xpu_emulator
