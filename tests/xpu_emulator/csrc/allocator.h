// The caching allocator: torch XPU's bookkeeping over memory that is not there.
//
// Segments and blocks are ranges of a virtual address space; only live tensors
// own host memory. A 16 GiB card therefore costs the host what its tensors
// cost, and a kernel's output can be adopted without a copy.
#pragma once

#include "device_state.h"

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>

#include <vector>

namespace xpu_emulator {

using c10::CachingDeviceAllocator::DeviceStats;

// One memory segment for torch.xpu.memory_snapshot.
struct SegmentView {
  struct BlockView {
    size_t address, size, requested;
    bool allocated;
  };
  c10::DeviceIndex device;
  size_t address, total_size;
  bool is_large;
  c10::StreamId stream;
  std::vector<BlockView> blocks;
};

c10::Allocator* device_allocator();

// Registers the allocator with torch; called once when the library is loaded.
void register_device_allocator();

// Gives host memory that a CPU kernel produced an account on `device`.
// Raises as allocating `storage.nbytes()` bytes would.
c10::DataPtr adopt(const c10::Storage& storage, c10::DeviceIndex device);

DeviceStats device_stats(c10::DeviceIndex device);
void reset_accumulated_stats(c10::DeviceIndex device);
void reset_peak_stats(c10::DeviceIndex device);
void empty_cache();
double memory_fraction(c10::DeviceIndex device);
void set_memory_fraction(double fraction, c10::DeviceIndex device);
std::vector<SegmentView> memory_snapshot();

// (free, total) in bytes, or the lie or the error that the card is told to give.
std::pair<size_t, size_t> memory_info(c10::DeviceIndex device);

// Forgets cached blocks and statistics; blocks of live tensors stay accounted.
void reset_memory(c10::DeviceIndex device);

} // namespace xpu_emulator
