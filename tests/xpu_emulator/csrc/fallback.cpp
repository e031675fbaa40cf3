#include "fallback.h"

#include "aliases.h"
#include "device_check.h"
#include "generator.h"

#include <torch/library.h>

namespace xpu_emulator {
namespace {

template <typename Convert>
c10::IValue convert_tensors(const c10::IValue& value, const Convert& convert) {
  if (value.isTensor()) {
    return convert(value.toTensor());
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> result;
    for (const at::Tensor& tensor : value.toTensorList()) {
      result.push_back(convert(tensor));
    }
    return result;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> result;
    for (const auto& item : value.toOptionalTensorList()) {
      const std::optional<at::Tensor> tensor = item;
      result.push_back(tensor ? std::make_optional(convert(*tensor)) : std::nullopt);
    }
    return result;
  }
  return value;
}

// The arguments as the CPU kernel gets them.
std::vector<c10::IValue> cpu_arguments(
    const OpFacts& facts, c10::ArrayRef<c10::IValue> arguments, AliasScope& scope,
    c10::DeviceIndex device) {
  std::vector<c10::IValue> result;
  result.reserve(arguments.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& value = arguments[i];
    if (static_cast<int>(i) == facts.generator_argument) {
      const auto& generator = value.isNone() ? default_generator(device) : value.toGenerator();
      result.emplace_back(cpu_side(generator));
    } else if (value.isDevice()) {
      result.emplace_back(c10::Device(c10::kCPU));
    } else {
      const bool written = facts.written[i];
      result.push_back(convert_tensors(
          value, [&](const at::Tensor& tensor) { return scope.to_cpu(tensor, written); }));
    }
  }
  return result;
}

void run_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
}

void run_in_float(
    const c10::OperatorHandle& op, AliasScope& scope, std::vector<c10::IValue> arguments,
    torch::jit::Stack* stack) {
  scope.compute_in_float();
  for (auto& value : arguments) {
    stack->push_back(
        convert_tensors(value, [&](const at::Tensor& tensor) { return scope.operand(tensor); }));
  }
  run_on_cpu(op, stack);
}

// Whether the CPU merely lacks this kernel for a 16-bit type. torch raises this
// when it chooses the inner loop, before anything is written.
bool lacks_half(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.find("not implemented for 'Half'") != std::string::npos ||
      text.find("not implemented for 'BFloat16'") != std::string::npos;
}

void run(
    const c10::OperatorHandle& op, OpFacts& facts, AliasScope& scope,
    std::vector<c10::IValue> arguments, torch::jit::Stack* stack) {
  const size_t base = stack->size();
  const bool half = scope.has_half();
  if (half && facts.compute_in_float.load(std::memory_order_relaxed)) {
    run_in_float(op, scope, std::move(arguments), stack);
    return;
  }
  stack->insert(stack->end(), arguments.begin(), arguments.end());
  if (C10_LIKELY(!half)) {
    run_on_cpu(op, stack);
    return;
  }
  try {
    run_on_cpu(op, stack);
  } catch (const c10::Error& error) {
    if (!lacks_half(error)) {
      throw;
    }
    facts.compute_in_float = true;
    stack->resize(base);
    run_in_float(op, scope, std::move(arguments), stack);
  }
}

void boxed(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  cpu_fallback(op, stack);
}

} // namespace

void cpu_fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  auto& facts = facts_of(op);
  const size_t count = op.schema().arguments().size();
  const auto given = torch::jit::last(*stack, count);
  const auto device = check_arguments(op, facts, given);
  enter_kernel(facts, device);
  AliasScope scope(device);
  auto arguments = cpu_arguments(facts, given, scope, device);
  torch::jit::drop(*stack, count);
  const size_t base = stack->size();
  run(op, facts, scope, std::move(arguments), stack);
  scope.finish();
  for (size_t i = base; i < stack->size(); ++i) {
    (*stack)[i] = convert_tensors(
        (*stack)[i], [&](const at::Tensor& tensor) { return scope.to_device(tensor); });
  }
}

TORCH_LIBRARY_IMPL(_, XPU, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&boxed>());
}

// Operators with a composite kernel, which would win over a fallback, although
// the card has a kernel of its own.
TORCH_LIBRARY_IMPL(aten, XPU, library) {
  const auto explicit_composite = c10::DispatchKey::CompositeExplicitAutograd;
  for (const char* name :
       {"native_layer_norm", "ldexp.Tensor", "ldexp_", "ldexp.out"}) {
    const std::string full = name;
    const auto dot = full.find('.');
    const auto op = c10::Dispatcher::singleton().findSchema(
        {"aten::" + full.substr(0, dot), dot == full.npos ? "" : full.substr(dot + 1)});
    // ldexp decomposes in older versions of torch, with its own gradient.
    if (op && op->hasKernelForDispatchKey(explicit_composite)) {
      library.impl(name, torch::CppFunction::makeFromBoxedFunction<&boxed>());
    }
  }
}

} // namespace xpu_emulator
