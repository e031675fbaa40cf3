#include "device_check.h"

#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

namespace c10::impl {
// Declared in ATen/core/op_registration/adaption.h, repeated to spare its cost.
[[noreturn]] TORCH_API void common_device_check_failure(
    c10::Device common_device, const at::Tensor& tensor, at::CheckedFrom methodName,
    at::CheckedFrom argName);
} // namespace c10::impl

namespace xpu_emulator {
namespace {

struct Survey {
  const OpFacts& facts;
  std::optional<c10::Device> common = std::nullopt; // of the first tensor
  std::optional<c10::Device> card = std::nullopt; // the first XPU that was seen

  void visit(const at::Tensor& tensor, const std::string& argument, bool is_index) {
    if (!tensor.defined()) {
      return;
    }
    const auto device = tensor.device();
    if (device.is_xpu() && !card) {
      card = device;
    }
    if (!facts.same_device) {
      visit_lenient(tensor, device, is_index);
      return;
    }
    if (!common) {
      common = device;
    } else if (C10_UNLIKELY(*common != device)) {
      c10::impl::common_device_check_failure(
          *common, tensor, facts.wrapper.c_str(), argument.c_str());
    }
  }

  // TensorIterator's rule: scalars may stay on the host, and indices as well.
  void visit_lenient(const at::Tensor& tensor, c10::Device device, bool is_index) {
    if (device.is_cpu() && (tensor.dim() == 0 || is_index)) {
      return;
    }
    if (!common) {
      common = device;
    }
    TORCH_CHECK(
        *common == device,
        "Expected all tensors to be on the same device, but found at least two devices, ",
        *common, " and ", device, "!");
  }
};

} // namespace

void check_dtype(at::ScalarType type, c10::DeviceIndex device) {
  if (C10_UNLIKELY(type == at::kDouble || type == at::kComplexDouble) &&
      !device_state(device).config.has_fp64) {
    raise_missing_fp64();
  }
}

c10::DeviceIndex check_arguments(
    const c10::OperatorHandle& op, const OpFacts& facts,
    c10::ArrayRef<c10::IValue> arguments) {
  Survey survey{facts};
  const auto& schema = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& value = arguments[i];
    const auto& name = schema[i].name();
    if (value.isTensor()) {
      survey.visit(value.toTensor(), name, false);
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorList()) {
        survey.visit(tensor, name, false);
      }
    } else if (value.isOptionalTensorList()) {
      for (const auto& tensor : value.toOptionalTensorList()) {
        const std::optional<at::Tensor> item = tensor;
        if (item) {
          survey.visit(*item, name, true);
        }
      }
    } else if (value.isDevice() && !survey.card) {
      const auto device = value.toDevice();
      survey.card = device.is_xpu() && device.has_index()
          ? device
          : c10::Device(c10::kXPU, current_device());
    }
  }
  const auto index = survey.card ? survey.card->index() : current_device();
  check_device_index(index);
  if (C10_UNLIKELY(!device_state(index).config.has_fp64) && !facts.is_view) {
    for (const auto& value : arguments) {
      if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_xpu()) {
        check_dtype(value.toTensor().scalar_type(), index);
      }
    }
  }
  return index;
}

} // namespace xpu_emulator
