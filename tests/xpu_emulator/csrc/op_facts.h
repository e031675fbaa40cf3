// What the fallback knows about an operator: worked out once, then looked up.
#pragma once

#include "device_state.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <unordered_map>
#include <vector>

namespace xpu_emulator {

struct OpFacts {
  explicit OpFacts(const c10::OperatorHandle& op);

  std::string name; // with overload: "aten::add.out"
  std::string wrapper; // as torch's generated code calls it: "wrapper_XPU_add_out"
  int generator_argument = -1; // position of a Generator? argument
  std::vector<bool> written; // by argument: an output or an in-place self
  bool is_view = false; // only describes memory: no kernel runs
  bool same_device = true; // torch demands one device for all tensors, scalars included
  bool has_cpu_kernel = true;
  bool answers_host = false; // returns a plain number or bool, so the host waits
  std::atomic<bool> denied{false};
  std::atomic<bool> compute_in_float{false}; // 16-bit floats are computed in 32 bits
  std::array<std::atomic<uint64_t>, kMaxDevices> calls{};
};

OpFacts& facts_of(const c10::OperatorHandle& op);

// Operators that torch exempts from the same-device check (`device_check:
// NoCheck` in native_functions.yaml), with overload names. Call once, first.
void set_unchecked_ops(std::vector<std::string> names);

// Base names ("aten::sort") or full names ("aten::sort.values") to refuse.
void set_denied_ops(std::vector<std::string> names);

std::unordered_map<std::string, uint64_t> op_calls(c10::DeviceIndex device);
void reset_op_calls();

// The common gate of every kernel: lost card, refused operator, ordered failure,
// earlier copies, counters. Raises what the card would.
void enter_kernel(OpFacts& facts, c10::DeviceIndex device);

} // namespace xpu_emulator
