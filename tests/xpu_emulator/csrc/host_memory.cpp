#include "host_memory.h"

#include <ATen/core/CachingHostAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <cstring>
#include <map>
#include <mutex>

namespace xpu_emulator {
namespace {

struct PinnedRanges {
  std::mutex mutex;
  std::map<uintptr_t, size_t> sizes; // start -> bytes
  at::HostStats stats; // only the fields that every supported torch has

  void add(void* pointer, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    sizes[reinterpret_cast<uintptr_t>(pointer)] = bytes;
    stats.allocated_bytes.increase(bytes);
    stats.num_host_alloc += 1;
  }
  void remove(void* pointer) {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = sizes.find(reinterpret_cast<uintptr_t>(pointer));
    stats.allocated_bytes.decrease(found->second);
    stats.num_host_free += 1;
    sizes.erase(found);
  }
};

// Leaked: pinned tensors of other static objects outlive this library's own.
PinnedRanges& ranges() {
  static auto* instance = new PinnedRanges;
  return *instance;
}

void release_pinned(void* pointer) {
  ranges().remove(pointer);
  c10::free_cpu(pointer);
}

class PinnedAllocator final : public at::HostAllocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) {
      return {nullptr, c10::Device(c10::kCPU)};
    }
    void* pointer = c10::alloc_cpu(bytes);
    ranges().add(pointer, bytes);
    return {pointer, pointer, &release_pinned, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &release_pinned;
  }
  void copy_data(void* destination, const void* source, size_t count) const override {
    std::memcpy(destination, source, count);
  }
  // A deferred copy owns its source, so pinned memory needs no events.
  bool record_event(void*, void*, c10::Stream) override {
    return true;
  }
  void empty_cache() override {} // nothing is cached
  at::HostStats get_stats() override {
    std::lock_guard<std::mutex> lock(ranges().mutex);
    return ranges().stats;
  }
  void reset_accumulated_stats() override {
    std::lock_guard<std::mutex> lock(ranges().mutex);
    ranges().stats.allocated_bytes.reset_accumulated();
  }
  void reset_peak_stats() override {
    std::lock_guard<std::mutex> lock(ranges().mutex);
    ranges().stats.allocated_bytes.reset_peak();
  }
};

} // namespace

c10::Allocator* pinned_allocator() {
  static auto* instance = new PinnedAllocator;
  return instance;
}

bool is_pinned(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  std::lock_guard<std::mutex> lock(ranges().mutex);
  auto after = ranges().sizes.upper_bound(address);
  if (after == ranges().sizes.begin()) {
    return false;
  }
  --after;
  return address < after->first + after->second;
}

void register_host_allocator() {
  at::setHostAllocator(c10::kXPU, static_cast<at::HostAllocator*>(pinned_allocator()));
}

} // namespace xpu_emulator
