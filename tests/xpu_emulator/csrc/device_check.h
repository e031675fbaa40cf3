// The checks that torch's generated XPU code makes before a kernel.
#pragma once

#include "op_facts.h"

#include <ATen/core/stack.h>

namespace xpu_emulator {

// The card that a call belongs to. Raises torch's "Expected all tensors to be on
// the same device" when the arguments disagree, and the fp64 error when an
// argument has a type that the card cannot compute with.
c10::DeviceIndex check_arguments(
    const c10::OperatorHandle& op, const OpFacts& facts,
    c10::ArrayRef<c10::IValue> arguments);

// Raises when a card without fp64 is asked to make or compute float64.
void check_dtype(at::ScalarType type, c10::DeviceIndex device);

} // namespace xpu_emulator
