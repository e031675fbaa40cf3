// Kernels that the card has under another name than the CPU.
#include "aliases.h"
#include "device_check.h"
#include "op_facts.h"

#include <ATen/ATen.h>
#include <torch/library.h>

namespace xpu_emulator {
namespace {

// An operator looked up once; `enter` is the gate that the fallback passes too.
struct NamedOp {
  explicit NamedOp(const char* name)
      : handle(c10::Dispatcher::singleton().findSchemaOrThrow(name, "")), facts(facts_of(handle)) {}

  c10::DeviceIndex enter(c10::ArrayRef<c10::IValue> tensors) const {
    const auto device = check_arguments(handle, facts, tensors);
    enter_kernel(facts, device);
    return device;
  }

  const c10::OperatorHandle handle;
  OpFacts& facts;
};

// Runs `kernel` on aliases, in float32 when all operands are 16-bit floats.
class Operands {
 public:
  Operands(c10::DeviceIndex device, std::initializer_list<at::Tensor> tensors) : scope_(device) {
    for (const auto& tensor : tensors) {
      cpu_.push_back(scope_.to_cpu(tensor));
    }
    if (scope_.has_half()) {
      scope_.compute_in_float();
    }
  }
  at::Tensor operator[](size_t i) const {
    return cpu_[i].defined() ? scope_.operand(cpu_[i]) : cpu_[i];
  }
  at::Tensor to_device(const at::Tensor& result) {
    return scope_.to_device(result);
  }

 private:
  AliasScope scope_;
  c10::SmallVector<at::Tensor, 6> cpu_;
};

std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::make_optional(tensor) : std::nullopt;
}

template <typename Convert>
std::optional<at::Tensor> map_optional(
    const std::optional<at::Tensor>& tensor, const Convert& convert) {
  return tensor && tensor->defined() ? std::make_optional(convert(*tensor)) : std::nullopt;
}

at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups) {
  static const NamedOp op("aten::convolution_overrideable");
  const auto device = op.enter({input, weight, bias});
  Operands cpu(device, {input, weight, bias.value_or(at::Tensor())});
  return cpu.to_device(at::convolution(
      cpu[0], cpu[1], optional(cpu[2]), stride, padding, dilation, transposed, output_padding,
      groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& weight,
    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> mask) {
  static const NamedOp op("aten::convolution_backward_overrideable");
  const auto device = op.enter({grad, input, weight});
  Operands cpu(device, {grad, input, weight});
  const int64_t channels = transposed ? weight.size(1) * groups : weight.size(0);
  auto [grad_input, grad_weight, grad_bias] = at::convolution_backward(
      cpu[0], cpu[1], cpu[2], at::IntArrayRef{channels}, stride, padding, dilation, transposed,
      output_padding, groups, mask);
  return {
      cpu.to_device(grad_input), cpu.to_device(grad_weight), cpu.to_device(grad_bias)};
}

// torch hands the card whatever layout it has, where it tidies up for the CPU,
// whose kernels read strided memory wrongly.
std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm(
    const at::Tensor& input, const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias, int64_t n, int64_t c, int64_t hxw, int64_t group,
    double eps) {
  static const NamedOp op("aten::native_group_norm");
  const auto device = op.enter({input, weight, bias});
  AliasScope scope(device);
  const auto contiguous = [&](const at::Tensor& tensor) { return scope.to_cpu(tensor).contiguous(); };
  const auto cpu = scope.to_cpu(input);
  auto [output, mean, rstd] = at::native_group_norm(
      cpu.contiguous(cpu.suggest_memory_format()), map_optional(weight, contiguous),
      map_optional(bias, contiguous), n, c, hxw, group, eps);
  return {scope.to_device(output), scope.to_device(mean), scope.to_device(rstd)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> group_norm_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& mean,
    const at::Tensor& rstd, const std::optional<at::Tensor>& weight, int64_t n, int64_t c,
    int64_t hxw, int64_t group, std::array<bool, 3> mask) {
  static const NamedOp op("aten::native_group_norm_backward");
  const auto device = op.enter({grad, input, mean, rstd, weight});
  AliasScope scope(device);
  const auto contiguous = [&](const at::Tensor& tensor) { return scope.to_cpu(tensor).contiguous(); };
  const auto cpu = scope.to_cpu(input);
  const auto format = cpu.suggest_memory_format();
  auto [grad_input, grad_weight, grad_bias] = at::native_group_norm_backward(
      scope.to_cpu(grad).contiguous(format), cpu.contiguous(format), contiguous(mean),
      contiguous(rstd), map_optional(weight, contiguous), n, c, hxw, group, mask);
  return {
      scope.to_device(grad_input), scope.to_device(grad_weight), scope.to_device(grad_bias)};
}

// Without a Generator argument the CPU's kernel would draw from the CPU's.
std::tuple<at::Tensor, at::Tensor> native_dropout(
    const at::Tensor& input, double p, std::optional<bool> train) {
  if (!train.value_or(true) || p == 0) {
    return {input.clone(), at::ones_like(input, input.options().dtype(at::kBool))};
  }
  auto mask = at::empty_like(input, input.options().dtype(at::kBool)).bernoulli_(1 - p);
  const double scale = p == 1 ? 0 : 1 / (1 - p);
  return {input * mask * scale, mask};
}

struct AttentionCall {
  const at::Tensor &query, &key, &value;
  std::optional<at::Tensor> mask;
  double dropout;
  bool causal;
  std::optional<double> scale;
  bool enable_gqa;
};

// Keeps the scores, batch x heads x queries x keys, in the card's memory.
at::Tensor attention_math(const AttentionCall& call) {
  auto mask = call.mask;
  if (mask && mask->scalar_type() == at::kBool) {
    mask = at::zeros_like(*mask, call.query.options())
               .masked_fill_(mask->logical_not(), -std::numeric_limits<double>::infinity());
  }
  return std::get<0>(at::_scaled_dot_product_attention_math(
      call.query, call.key, call.value, mask, call.dropout, call.causal, std::nullopt, call.scale,
      call.enable_gqa));
}

void check_attention(const AttentionCall& call) {
  const auto& [query, key, value, mask, dropout, causal, scale, gqa] = call;
  TORCH_CHECK(
      query.device() == key.device() && query.device() == value.device(),
      "Expected query, key, and value to have the same device type, but got query.device: ",
      query.device(), " key.device: ", key.device(), " and value.device: ", value.device(),
      " instead.");
  TORCH_CHECK(
      query.scalar_type() == key.scalar_type() && query.scalar_type() == value.scalar_type(),
      "Expected query, key, and value to have the same dtype, but got query.dtype: ",
      query.dtype(), " key.dtype: ", key.dtype(), " and value.dtype: ", value.dtype(),
      " instead.");
}

// Only the result is in the card's memory.
at::Tensor attention_fused(const AttentionCall& call) {
  static const NamedOp op("aten::scaled_dot_product_attention");
  const auto device = op.enter({call.query, call.key, call.value, call.mask});
  Operands cpu(
      device, {call.query, call.key, call.value, call.mask.value_or(at::Tensor())});
  return cpu.to_device(at::scaled_dot_product_attention(
      cpu[0], cpu[1], cpu[2], optional(cpu[3]), 0.0, call.causal, call.scale, call.enable_gqa));
}

at::Tensor attention(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& mask, double dropout, bool causal,
    std::optional<double> scale, bool enable_gqa) {
  const AttentionCall call{query, key, value, mask, dropout, causal, scale, enable_gqa};
  check_attention(call);
  const bool fused = options().fused_attention && dropout == 0.0;
  return fused ? attention_fused(call) : attention_math(call);
}

// The fused kernel has no gradient, so training takes the other road.
at::Tensor attention_autograd(
    const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const std::optional<at::Tensor>& mask, double dropout, bool causal,
    std::optional<double> scale, bool enable_gqa) {
  const AttentionCall call{query, key, value, mask, dropout, causal, scale, enable_gqa};
  const bool needs_gradient = at::GradMode::is_enabled() &&
      (query.requires_grad() || key.requires_grad() || value.requires_grad() ||
       (mask && mask->requires_grad()));
  if (needs_gradient) {
    check_attention(call);
    return attention_math(call);
  }
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  return at::scaled_dot_product_attention(
      query, key, value, mask, dropout, causal, scale, enable_gqa);
}

TORCH_LIBRARY_IMPL(aten, XPU, library) {
  library.impl("convolution_overrideable", TORCH_FN(convolution));
  library.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
  library.impl("native_group_norm", TORCH_FN(group_norm));
  library.impl("native_group_norm_backward", TORCH_FN(group_norm_backward));
  library.impl("native_dropout", TORCH_FN(native_dropout));
  library.impl("scaled_dot_product_attention", TORCH_FN(attention));
}

TORCH_LIBRARY_IMPL(aten, AutogradXPU, library) {
  library.impl("scaled_dot_product_attention", TORCH_FN(attention_autograd));
}

} // namespace
} // namespace xpu_emulator
