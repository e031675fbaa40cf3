// Segments and blocks of one device: splitting, merging, caching, statistics.
// The constants and rules are those of torch's c10/xpu/XPUCachingAllocator.cpp.
#pragma once

#include "allocator.h"

#include <memory>
#include <set>

namespace xpu_emulator {

struct Block {
  c10::StreamId stream = 0;
  size_t address = 0; // virtual: never dereferenced
  size_t size = 0;
  size_t requested = 0;
  bool small = false;
  bool allocated = false;
  Block* previous = nullptr;
  Block* next = nullptr;

  bool is_split() const {
    return previous != nullptr || next != nullptr;
  }
};

struct BlockOrder {
  bool operator()(const Block* a, const Block* b) const {
    return std::tie(a->stream, a->size, a->address) < std::tie(b->stream, b->size, b->address);
  }
};

class BlockPool {
 public:
  explicit BlockPool(c10::DeviceIndex device) : device_(device) {}

  // Raises torch.OutOfMemoryError, or what the card's OomStyle says.
  Block* allocate(size_t bytes, c10::StreamId stream);
  void free(Block* block) noexcept;
  void empty_cache();
  void reset();

  DeviceStats stats();
  void reset_accumulated_stats();
  void reset_peak_stats();
  size_t reserved();
  double fraction();
  void set_fraction(double fraction);
  void snapshot(std::vector<SegmentView>& into);

 private:
  using Pool = std::set<Block*, BlockOrder>;
  Pool& pool_of(const Block& block) {
    return block.small ? small_ : large_;
  }
  Block* take_cached(size_t size, c10::StreamId stream, bool small);
  Block* new_segment(size_t segment_size, c10::StreamId stream, bool small);
  Block* hand_out(Block* block, size_t size, size_t requested);
  Block* merge(Block* block, Block* neighbour);
  void release_cached();
  bool fits(size_t segment_size) const;
  [[noreturn]] void raise_out_of_memory(size_t segment_size);
  size_t reserved_locked() const;
  size_t allocated_locked() const;
  template <typename Change>
  void each_stat(bool small, const Change& change);

  const c10::DeviceIndex device_;
  std::mutex mutex_;
  Pool small_, large_;
  std::set<Block*> heads_; // the first block of every segment
  DeviceStats stats_;
  std::optional<double> fraction_;
  size_t next_address_ = size_t{1} << 40;
};

BlockPool& block_pool(c10::DeviceIndex device);

} // namespace xpu_emulator
