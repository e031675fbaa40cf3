#include "block_pool.h"

#include <c10/util/Exception.h>

#include <iomanip>
#include <sstream>

namespace xpu_emulator {
namespace {

// Sizes in bytes, from torch's c10/core/AllocatorConfig.h and
// c10/xpu/XPUCachingAllocator.cpp.
constexpr size_t kMinBlock = 512; // every block is a multiple of this
constexpr size_t kSmallSize = 1 << 20; // largest "small" allocation
constexpr size_t kSmallSegment = 2 << 20; // small allocations share these
constexpr size_t kLargeSegment = 20 << 20; // allocations below kMinLargeAlloc share these
constexpr size_t kMinLargeAlloc = 10 << 20;
constexpr size_t kRoundLarge = 2 << 20;

size_t round_up(size_t size, size_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

size_t segment_size_for(size_t size) {
  if (size <= kSmallSize) {
    return kSmallSegment;
  }
  return size < kMinLargeAlloc ? kLargeSegment : round_up(size, kRoundLarge);
}

std::string format_bytes(size_t size) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2);
  if (size <= 1024) {
    text << size << " bytes";
  } else if (size <= 1048576) {
    text << static_cast<double>(size) / 1024.0 << " KiB";
  } else if (size <= 1073741824ULL) {
    text << static_cast<double>(size) / 1048576.0 << " MiB";
  } else {
    text << static_cast<double>(size) / 1073741824.0 << " GiB";
  }
  return text.str();
}

} // namespace

template <typename Change>
void BlockPool::each_stat(bool small, const Change& change) {
  using c10::CachingAllocator::StatType;
  change(static_cast<size_t>(StatType::AGGREGATE));
  change(static_cast<size_t>(small ? StatType::SMALL_POOL : StatType::LARGE_POOL));
}

size_t BlockPool::reserved_locked() const {
  return static_cast<size_t>(stats_.reserved_bytes[0].current);
}

size_t BlockPool::allocated_locked() const {
  return static_cast<size_t>(stats_.allocated_bytes[0].current);
}

Block* BlockPool::allocate(size_t bytes, c10::StreamId stream) {
  auto& state = device_state(device_);
  const size_t size = std::max(round_up(bytes, kMinBlock), kMinBlock);
  const size_t segment_size = segment_size_for(size);
  std::lock_guard<std::mutex> lock(mutex_);
  state.counters.allocations.fetch_add(1, std::memory_order_relaxed);
  if (state.fail_allocation_in.load() > 0 && state.fail_allocation_in.fetch_sub(1) == 1) {
    raise_out_of_memory(segment_size);
  }
  const auto limit = state.config.max_allocation;
  if (limit != 0 && size > limit) {
    raise_out_of_memory(segment_size); // no segment of the cache could be this large either
  }
  const bool small = size <= kSmallSize;
  Block* block = take_cached(size, stream, small);
  if (block == nullptr) {
    block = new_segment(segment_size, stream, small);
  }
  if (block == nullptr) {
    stats_.num_alloc_retries += 1;
    release_cached();
    block = new_segment(segment_size, stream, small);
  }
  if (block == nullptr) {
    raise_out_of_memory(segment_size);
  }
  return hand_out(block, size, bytes);
}

Block* BlockPool::take_cached(size_t size, c10::StreamId stream, bool small) {
  Block key;
  key.stream = stream;
  key.size = size;
  auto& pool = small ? small_ : large_;
  auto found = pool.lower_bound(&key);
  if (found == pool.end() || (*found)->stream != stream) {
    return nullptr;
  }
  Block* block = *found;
  pool.erase(found);
  return block;
}

bool BlockPool::fits(size_t segment_size) const {
  const auto& config = device_state(device_).config;
  const size_t wanted = reserved_locked() + segment_size;
  if (fraction_ && static_cast<double>(wanted) > *fraction_ * config.total_memory) {
    return false;
  }
  return wanted + config.external_memory <= config.total_memory;
}

Block* BlockPool::new_segment(
    size_t segment_size, c10::StreamId stream, bool small) {
  if (!fits(segment_size)) {
    return nullptr;
  }
  auto* block = new Block;
  block->stream = stream;
  block->address = next_address_;
  block->size = segment_size;
  block->small = small;
  next_address_ += segment_size + kRoundLarge;
  heads_.insert(block);
  stats_.num_device_alloc += 1;
  each_stat(small, [&](size_t kind) {
    stats_.segment[kind].increase(1);
    stats_.reserved_bytes[kind].increase(segment_size);
  });
  return block;
}

Block* BlockPool::hand_out(Block* block, size_t size, size_t requested) {
  const size_t remaining = block->size - size;
  const bool was_split = block->is_split();
  const size_t whole = block->size;
  if (block->small ? remaining >= kMinBlock : remaining > kSmallSize) {
    auto* rest = new Block(*block);
    rest->address += size;
    rest->size = remaining;
    rest->previous = block;
    if (rest->next != nullptr) {
      rest->next->previous = rest;
    }
    block->next = rest;
    block->size = size;
    pool_of(*rest).insert(rest);
    each_stat(block->small, [&](size_t kind) {
      if (was_split) {
        stats_.inactive_split_bytes[kind].decrease(size);
      } else {
        stats_.inactive_split_bytes[kind].increase(remaining);
        stats_.inactive_split[kind].increase(1);
      }
    });
  } else if (was_split) {
    each_stat(block->small, [&](size_t kind) {
      stats_.inactive_split_bytes[kind].decrease(whole);
      stats_.inactive_split[kind].decrease(1);
    });
  }
  block->allocated = true;
  block->requested = requested;
  each_stat(block->small, [&](size_t kind) {
    stats_.allocation[kind].increase(1);
    stats_.allocated_bytes[kind].increase(block->size);
    stats_.active[kind].increase(1);
    stats_.active_bytes[kind].increase(block->size);
    stats_.requested_bytes[kind].increase(requested);
  });
  return block;
}

void BlockPool::free(Block* block) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  block->allocated = false;
  each_stat(block->small, [&](size_t kind) {
    stats_.allocation[kind].decrease(1);
    stats_.allocated_bytes[kind].decrease(block->size);
    stats_.active[kind].decrease(1);
    stats_.active_bytes[kind].decrease(block->size);
    stats_.requested_bytes[kind].decrease(block->requested);
  });
  for (Block* neighbour : {block->previous, block->next}) {
    if (neighbour != nullptr && !neighbour->allocated) {
      each_stat(block->small, [&](size_t kind) {
        stats_.inactive_split[kind].decrease(1);
        stats_.inactive_split_bytes[kind].decrease(neighbour->size);
      });
      block = merge(block, neighbour);
    }
  }
  if (block->is_split()) {
    each_stat(block->small, [&](size_t kind) {
      stats_.inactive_split[kind].increase(1);
      stats_.inactive_split_bytes[kind].increase(block->size);
    });
  }
  pool_of(*block).insert(block);
}

// Joins two free neighbours into the lower one and returns it.
Block* BlockPool::merge(Block* block, Block* neighbour) {
  pool_of(*neighbour).erase(neighbour); // before its size, which orders the pool, changes
  Block* low = block->address < neighbour->address ? block : neighbour;
  Block* high = low == block ? neighbour : block;
  low->size += high->size;
  low->next = high->next;
  if (high->next != nullptr) {
    high->next->previous = low;
  }
  delete high;
  return low;
}

void BlockPool::release_cached() {
  for (auto* pool : {&small_, &large_}) {
    for (auto it = pool->begin(); it != pool->end();) {
      Block* block = *it;
      if (block->is_split()) {
        ++it;
        continue;
      }
      it = pool->erase(it);
      heads_.erase(block);
      stats_.num_device_free += 1;
      each_stat(block->small, [&](size_t kind) {
        stats_.segment[kind].decrease(1);
        stats_.reserved_bytes[kind].decrease(block->size);
      });
      delete block;
    }
  }
}

void BlockPool::raise_out_of_memory(size_t segment_size) {
  auto& state = device_state(device_);
  stats_.num_ooms += 1;
  state.counters.ooms.fetch_add(1);
  switch (state.config.oom_style) {
    case OomStyle::kOutOfDeviceMemory:
      raise_level_zero(39, "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY");
    case OomStyle::kOutOfResources:
      raise_level_zero(40, "UR_RESULT_ERROR_OUT_OF_RESOURCES");
    case OomStyle::kTorch:
      break;
  }
  const size_t total = state.config.total_memory;
  const size_t used = reserved_locked() + state.config.external_memory;
  std::string allowed;
  if (fraction_) {
    allowed = format_bytes(static_cast<size_t>(*fraction_ * total)) + " allowed; ";
  }
  TORCH_CHECK_WITH(
      OutOfMemoryError, false,
      "XPU out of memory. Tried to allocate ", format_bytes(segment_size), ". GPU ",
      static_cast<int>(device_), " has a total capacity of ", format_bytes(total),
      " of which ", format_bytes(total > used ? total - used : 0), " is free. ", allowed,
      "Of the allocated memory ", format_bytes(allocated_locked()),
      " is allocated by PyTorch, and ", format_bytes(reserved_locked() - allocated_locked()),
      " is reserved by PyTorch but unallocated.",
      " Please use `empty_cache` to release all unoccupied cached memory.");
}

} // namespace xpu_emulator
