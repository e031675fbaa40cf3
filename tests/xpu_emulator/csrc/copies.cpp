// Copies between and within memories, and reading one element.
#include "aliases.h"
#include "device_check.h"
#include "host_memory.h"
#include "streams.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <cstring>

namespace xpu_emulator {
namespace {

CopyKind kind_of(const at::Tensor& to, const at::Tensor& from) {
  if (!from.is_xpu()) {
    return CopyKind::kHostToDevice;
  }
  if (!to.is_xpu()) {
    return CopyKind::kDeviceToHost;
  }
  return to.device() == from.device() ? CopyKind::kWithinDevice : CopyKind::kPeer;
}

void count_copy(c10::DeviceIndex device, CopyKind kind, size_t bytes, bool non_blocking) {
  auto& counter = device_state(device).counters.copies[static_cast<size_t>(kind)];
  counter.count.fetch_add(1, std::memory_order_relaxed);
  counter.bytes.fetch_add(bytes, std::memory_order_relaxed);
  counter.non_blocking.fetch_add(non_blocking ? 1 : 0, std::memory_order_relaxed);
}

// Raises what a test has ordered for this copy.
void meet_ordered_failure(c10::DeviceIndex device) {
  auto& state = device_state(device);
  if (C10_UNLIKELY(state.fail_copy_in.load(std::memory_order_relaxed) > 0) &&
      state.fail_copy_in.fetch_sub(1) == 1) {
    std::lock_guard<std::mutex> lock(config_mutex());
    TORCH_CHECK(false, state.fail_text);
  }
}

bool can_poison(const at::Tensor& cpu) {
  // Only then does every byte belong to exactly one element.
  return cpu.is_cpu() && cpu.is_non_overlapping_and_dense() && !cpu.is_conj() && !cpu.is_neg();
}

void poison(const at::Tensor& cpu) {
  std::memset(cpu.mutable_data_ptr(), kPoisonByte, cpu.nbytes());
}

// The copy of a host that reads its destination too early, or reuses its source
// too early. The card sees its own work in order; the host sees it when it waits.
void copy_later(at::Tensor to, at::Tensor from, CopyKind kind, c10::DeviceIndex device) {
  const auto stream = current_stream_id(device);
  if (kind == CopyKind::kDeviceToHost) {
    // Later kernels may change the source, so its value is taken now.
    from = from.clone();
  } else if (!is_pinned(from.storage().data())) {
    // Pageable memory is staged before the call returns.
    from = from.clone();
  }
  poison(to);
  const auto visible =
      kind == CopyKind::kDeviceToHost ? Visible::kToHost : Visible::kToStream;
  defer_copy(device, stream, visible, [to, from]() mutable { to.copy_(from); });
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.is_same(source)) {
    return self;
  }
  const auto kind = kind_of(self, source);
  const auto device = (self.is_xpu() ? self : source).device().index();
  check_device_index(device);
  check_alive(device);
  if (source.is_xpu() && source.device().index() != device) {
    check_alive(source.device().index());
    order_before_kernel(source.device().index());
  }
  if (self.scalar_type() != source.scalar_type()) {
    // A conversion is a kernel, unlike a move.
    check_dtype(self.is_xpu() ? self.scalar_type() : at::kFloat, device);
    check_dtype(source.is_xpu() ? source.scalar_type() : at::kFloat, device);
  }
  if (self.numel() == 0) {
    cpu_alias(self).copy_(cpu_alias(source)); // for its checks
    return self;
  }
  meet_ordered_failure(device);
  count_copy(device, kind, self.numel() * self.element_size(), non_blocking);
  const at::NoGradGuard no_grad;
  auto to = cpu_alias(self);
  const auto from = cpu_alias(source);
  const bool deferred = kind == CopyKind::kHostToDevice && non_blocking && options().async_copies;
  if (!deferred) { // else it queues up behind the copies before it
    order_before_kernel(device);
  }
  const bool crosses = kind == CopyKind::kHostToDevice || kind == CopyKind::kDeviceToHost;
  if (crosses && non_blocking && options().async_copies && can_poison(to)) {
    copy_later(to, from.expand_as(to), kind, device);
    return self;
  }
  if (crosses && !non_blocking) {
    finish_stream(device, current_stream_id(device), /*silent=*/true);
  }
  to.copy_(from);
  return self;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& destination, bool non_blocking) {
  auto to = destination;
  copy_(to, self, non_blocking);
  return destination;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& destination) {
  destination.resize_(self.sizes());
  return copy_from(self, destination, false);
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  const auto device = self.device().index();
  check_device_index(device);
  device_state(device).counters.items.fetch_add(1, std::memory_order_relaxed);
  finish_stream(device, current_stream_id(device), /*silent=*/true);
  return at::_local_scalar_dense(cpu_alias(self));
}

TORCH_LIBRARY_IMPL(aten, XPU, library) {
  library.impl("copy_", TORCH_FN(copy_));
  library.impl("_copy_from", TORCH_FN(copy_from));
  library.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  library.impl("_local_scalar_dense", TORCH_FN(local_scalar_dense));
}

} // namespace
} // namespace xpu_emulator
