#include "op_facts.h"

#include "streams.h"

#include <algorithm>
#include <memory>
#include <shared_mutex>
#include <unordered_set>

namespace xpu_emulator {
namespace {

// Computed in float32 and rounded: the CPU's 16-bit versions are several times
// slower, and the card accumulates in 32 bits as well.
const std::unordered_set<std::string> kComputeInFloat = {
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addbmm",
    "aten::_addmm_activation", "aten::addmv", "aten::addr"};

struct Registry {
  std::shared_mutex mutex;
  std::unordered_map<const c10::FunctionSchema*, std::unique_ptr<OpFacts>> facts;
  std::unordered_set<std::string> unchecked;
  std::unordered_set<std::string> denied;
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

std::string base_name(const std::string& name) {
  return name.substr(0, name.find('.'));
}

bool is_denied(const Registry& ops, const std::string& name) {
  return ops.denied.count(name) != 0 || ops.denied.count(base_name(name)) != 0;
}

std::string wrapper_name(const std::string& name) {
  std::string method = name.substr(name.find("::") + 2);
  std::replace(method.begin(), method.end(), '.', '_');
  return "wrapper_XPU_" + method;
}

bool describes_memory_only(const c10::FunctionSchema& schema) {
  const auto& returns = schema.returns();
  return !returns.empty() && std::all_of(returns.begin(), returns.end(), [](const auto& value) {
    return value.alias_info() != nullptr && !value.alias_info()->isWrite();
  });
}

} // namespace

OpFacts::OpFacts(const c10::OperatorHandle& op)
    : name(toString(op.operator_name())), wrapper(wrapper_name(name)) {
  const auto& schema = op.schema();
  for (size_t i = 0; i < schema.arguments().size(); ++i) {
    const auto* alias = schema.arguments()[i].alias_info();
    written.push_back(alias != nullptr && alias->isWrite());
    if (schema.arguments()[i].type()->str().find("Generator") != std::string::npos) {
      generator_argument = static_cast<int>(i);
    }
  }
  is_view = describes_memory_only(schema);
  same_device = registry().unchecked.count(name) == 0;
  has_cpu_kernel = op.hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
      op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd) ||
      op.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd) ||
      op.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutogradNonFunctional);
  answers_host = name == "aten::equal" || name == "aten::allclose";
  denied = is_denied(registry(), name);
  compute_in_float = kComputeInFloat.count(base_name(name)) != 0;
}

OpFacts& facts_of(const c10::OperatorHandle& op) {
  auto& ops = registry();
  const auto* key = &op.schema();
  {
    std::shared_lock<std::shared_mutex> lock(ops.mutex);
    const auto found = ops.facts.find(key);
    if (C10_LIKELY(found != ops.facts.end())) {
      return *found->second;
    }
  }
  std::unique_lock<std::shared_mutex> lock(ops.mutex);
  auto& slot = ops.facts[key];
  if (slot == nullptr) {
    slot = std::make_unique<OpFacts>(op);
  }
  return *slot;
}

void set_unchecked_ops(std::vector<std::string> names) {
  auto& ops = registry();
  std::unique_lock<std::shared_mutex> lock(ops.mutex);
  ops.unchecked.insert(names.begin(), names.end());
}

void set_denied_ops(std::vector<std::string> names) {
  auto& ops = registry();
  std::unique_lock<std::shared_mutex> lock(ops.mutex);
  ops.denied = {names.begin(), names.end()};
  for (auto& [key, facts] : ops.facts) {
    facts->denied = is_denied(ops, facts->name);
  }
}

std::unordered_map<std::string, uint64_t> op_calls(c10::DeviceIndex device) {
  auto& ops = registry();
  std::shared_lock<std::shared_mutex> lock(ops.mutex);
  std::unordered_map<std::string, uint64_t> calls;
  for (const auto& [key, facts] : ops.facts) {
    if (const auto count = facts->calls[static_cast<size_t>(device)].load()) {
      calls[facts->name] += count;
    }
  }
  return calls;
}

void reset_op_calls() {
  auto& ops = registry();
  std::shared_lock<std::shared_mutex> lock(ops.mutex);
  for (const auto& [key, facts] : ops.facts) {
    for (auto& count : facts->calls) {
      count = 0;
    }
  }
}

void enter_kernel(OpFacts& facts, c10::DeviceIndex device) {
  check_alive(device);
  TORCH_CHECK_NOT_IMPLEMENTED(
      !facts.denied.load(std::memory_order_relaxed) && facts.has_cpu_kernel, "Could not run '",
      facts.name, "' with arguments from the 'XPU' backend. This could be because the operator "
      "doesn't exist for this backend, or was omitted during the selective/custom build process "
      "(if using custom build).");
  facts.calls[static_cast<size_t>(device)].fetch_add(1, std::memory_order_relaxed);
  if (facts.is_view) {
    return;
  }
  auto& state = device_state(device);
  if (C10_UNLIKELY(state.fail_kernel_in.load(std::memory_order_relaxed) > 0) &&
      state.fail_kernel_in.fetch_sub(1) == 1) {
    std::lock_guard<std::mutex> lock(config_mutex());
    TORCH_CHECK(false, state.fail_text);
  }
  state.counters.kernels.fetch_add(1, std::memory_order_relaxed);
  if (facts.answers_host) {
    state.counters.items.fetch_add(1, std::memory_order_relaxed);
    finish_stream(device, current_stream_id(device), /*silent=*/true);
  } else {
    order_before_kernel(device);
  }
}

} // namespace xpu_emulator
