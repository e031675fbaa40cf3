#include "allocator.h"

#include "block_pool.h"
#include "streams.h"

#include <ATen/EmptyTensor.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/version.h>

#include <cstring>

#define XPU_EMULATOR_HAS_DEVICE_ALLOCATOR \
  (TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 9))

namespace xpu_emulator {
namespace {

// What a DataPtr of the device owns: its block, and the host memory behind it,
// either allocated here or lent by the storage of a CPU kernel's output.
struct Allocation {
  Block* block;
  c10::DeviceIndex device;
  void* host;
  c10::Storage lender;
};

void release(void* context) {
  auto* allocation = static_cast<Allocation*>(context);
  if (allocation->host != nullptr) {
    c10::free_cpu(allocation->host);
  }
  block_pool(allocation->device).free(allocation->block);
  delete allocation;
}

Block* reserve(size_t bytes, c10::DeviceIndex device) {
  check_device_index(device);
  check_alive(device);
  return block_pool(device).allocate(bytes, current_stream_id(device));
}

#if XPU_EMULATOR_HAS_DEVICE_ALLOCATOR
using AllocatorBase = c10::DeviceAllocator;
#else
using AllocatorBase = c10::Allocator;
#endif

class EmulatedAllocator final : public AllocatorBase {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const auto index = current_device();
    const c10::Device device(c10::kXPU, index);
    if (bytes == 0) {
      return {nullptr, device};
    }
    auto* block = reserve(bytes, index);
    void* host = nullptr;
    try {
      host = c10::alloc_cpu(bytes);
    } catch (...) {
      block_pool(index).free(block);
      throw;
    }
    if (options().poison.load(std::memory_order_relaxed)) {
      std::memset(host, kPoisonByte, bytes);
    }
    return {host, new Allocation{block, index, host, {}}, &release, device};
  }

  void copy_data(void* destination, const void* source, size_t count) const override {
    std::memcpy(destination, source, count);
  }

#if XPU_EMULATOR_HAS_DEVICE_ALLOCATOR
  bool initialized() override {
    return device_count() > 0;
  }
  void emptyCache(c10::MempoolId_t) override {
    xpu_emulator::empty_cache();
  }
  // All work is finished when a kernel returns, so no block waits for a stream.
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    return device_stats(device);
  }
  void resetAccumulatedStats(c10::DeviceIndex device) override {
    reset_accumulated_stats(device);
  }
  void resetPeakStats(c10::DeviceIndex device) override {
    reset_peak_stats(device);
  }
  // Virtual in newer versions of torch, hence without `override`.
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex device) {
    return memory_info(device);
  }
#endif
};

// Leaked: tensors in other static objects are freed after this library's own.
EmulatedAllocator& instance() {
  static auto* allocator = new EmulatedAllocator;
  return *allocator;
}

} // namespace

BlockPool& block_pool(c10::DeviceIndex device) {
  static auto* pools = new std::array<BlockPool, kMaxDevices>{
      BlockPool(0), BlockPool(1), BlockPool(2), BlockPool(3)};
  return (*pools)[static_cast<size_t>(device)];
}

c10::Allocator* device_allocator() {
  return &instance();
}

void register_device_allocator() {
  c10::SetAllocator(c10::kXPU, &instance());
}

c10::DataPtr adopt(const c10::Storage& storage, c10::DeviceIndex device) {
  const c10::Device where(c10::kXPU, device);
  if (storage.nbytes() == 0) {
    return {nullptr, where};
  }
  auto* block = reserve(storage.nbytes(), device);
  void* data = storage.unsafeGetStorageImpl()->mutable_data();
  return {data, new Allocation{block, device, nullptr, storage}, &release, where};
}

void empty_cache() {
  for (c10::DeviceIndex device = 0; device < device_count(); ++device) {
    check_alive(device);
    block_pool(device).empty_cache();
  }
}

std::vector<SegmentView> memory_snapshot() {
  std::vector<SegmentView> segments;
  for (c10::DeviceIndex device = 0; device < device_count(); ++device) {
    block_pool(device).snapshot(segments);
  }
  return segments;
}

std::pair<size_t, size_t> memory_info(c10::DeviceIndex device) {
  check_device_index(device);
  check_alive(device);
  const auto& config = device_state(device).config;
  TORCH_CHECK(
      !config.mem_get_info_raises,
      "The device (", config.name, ") doesn't support querying the available free memory. ",
      "You can file an issue at https://github.com/pytorch/pytorch/issues ",
      "to help us prioritize its implementation.");
  const size_t used = block_pool(device).reserved() + config.external_memory;
  const size_t free = config.total_memory > used ? config.total_memory - used : 0;
  return {config.mem_get_info_free.value_or(free), config.total_memory};
}

DeviceStats device_stats(c10::DeviceIndex device) {
  check_device_index(device);
  return block_pool(device).stats();
}

void reset_accumulated_stats(c10::DeviceIndex device) {
  check_device_index(device);
  block_pool(device).reset_accumulated_stats();
}

void reset_peak_stats(c10::DeviceIndex device) {
  check_device_index(device);
  block_pool(device).reset_peak_stats();
}

double memory_fraction(c10::DeviceIndex device) {
  check_device_index(device);
  return block_pool(device).fraction();
}

void set_memory_fraction(double fraction, c10::DeviceIndex device) {
  check_device_index(device);
  TORCH_CHECK(
      fraction > 0 && fraction <= 1, "invalid fraction:", fraction, ". Please set within (0, 1].");
  block_pool(device).set_fraction(fraction);
}

void reset_memory(c10::DeviceIndex device) {
  block_pool(device).reset();
}

} // namespace xpu_emulator
