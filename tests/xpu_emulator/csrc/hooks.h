// Registration of the emulator as torch's one accelerator.
#pragma once

namespace xpu_emulator {

// Makes torch's XPU hooks ours and its CUDA hooks those of a torch without CUDA.
// Raises RuntimeError when torch has already created its own XPU hooks.
void register_hooks();

} // namespace xpu_emulator
