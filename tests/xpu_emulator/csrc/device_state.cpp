#include "device_state.h"

#include <c10/util/Exception.h>

namespace xpu_emulator {
namespace {

std::array<DeviceState, kMaxDevices> g_devices;
std::atomic<int> g_device_count{0};
thread_local c10::DeviceIndex t_current_device = 0;

} // namespace

void Counters::reset() {
  for (auto* counter : {&kernels, &items, &synchronizes, &allocations, &ooms}) {
    counter->store(0);
  }
  for (auto& copy : copies) {
    copy.count = 0;
    copy.bytes = 0;
    copy.non_blocking = 0;
  }
}

DeviceState& device_state(c10::DeviceIndex index) {
  return g_devices[static_cast<size_t>(index)];
}

Options& options() {
  static Options instance;
  return instance;
}

std::mutex& config_mutex() {
  static std::mutex instance;
  return instance;
}

c10::DeviceIndex device_count() noexcept {
  return static_cast<c10::DeviceIndex>(g_device_count.load(std::memory_order_relaxed));
}

void set_device_count(c10::DeviceIndex count) {
  TORCH_CHECK(
      count >= 0 && count <= kMaxDevices,
      "The emulated XPU has 0 to ", static_cast<int>(kMaxDevices), " devices, not ",
      static_cast<int>(count), ".");
  g_device_count.store(count);
}

c10::DeviceIndex current_device() noexcept {
  return t_current_device;
}

c10::DeviceIndex exchange_device(c10::DeviceIndex index) noexcept {
  const auto previous = t_current_device;
  if (index >= 0 && index < kMaxDevices) {
    t_current_device = index;
  }
  return previous;
}

void check_device_index(c10::DeviceIndex index) {
  const auto total = device_count();
  TORCH_CHECK(total > 0, "No XPU devices are available.");
  TORCH_CHECK(
      index >= 0 && index < total,
      "The device index is out of range. It must be in [0, ", static_cast<int>(total),
      "), but got ", static_cast<int>(index), ".");
}

void check_alive(c10::DeviceIndex index) {
  if (C10_UNLIKELY(device_state(index).lost.load(std::memory_order_relaxed))) {
    raise_level_zero(20, "UR_RESULT_ERROR_DEVICE_LOST");
  }
}

void raise_level_zero(int code, const char* name) {
  TORCH_CHECK(false, "level_zero backend failed with error: ", code, " (", name, ")");
}

void raise_missing_fp64() {
  TORCH_CHECK(false, "Required aspect fp64 is not supported on the device");
}

} // namespace xpu_emulator
