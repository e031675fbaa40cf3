// The one kernel behind nearly all operators: the CPU's, on aliased memory.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace xpu_emulator {

void cpu_fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack);

} // namespace xpu_emulator
