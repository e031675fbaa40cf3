// The part of BlockPool that reports rather than allocates.
#include "block_pool.h"

namespace xpu_emulator {
namespace {

template <typename Change>
void each_stat_array(DeviceStats& stats, const Change& change) {
  for (auto* array :
       {&stats.allocation, &stats.segment, &stats.active, &stats.inactive_split,
        &stats.allocated_bytes, &stats.reserved_bytes, &stats.active_bytes,
        &stats.inactive_split_bytes, &stats.requested_bytes}) {
    for (auto& stat : *array) {
      change(stat);
    }
  }
}

} // namespace

void BlockPool::empty_cache() {
  std::lock_guard<std::mutex> lock(mutex_);
  release_cached();
}

DeviceStats BlockPool::stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

size_t BlockPool::reserved() {
  std::lock_guard<std::mutex> lock(mutex_);
  return reserved_locked();
}

double BlockPool::fraction() {
  std::lock_guard<std::mutex> lock(mutex_);
  return fraction_.value_or(1.0);
}

void BlockPool::set_fraction(double fraction) {
  std::lock_guard<std::mutex> lock(mutex_);
  fraction_ = fraction;
}

void BlockPool::reset_accumulated_stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  each_stat_array(stats_, [](auto& stat) { stat.reset_accumulated(); });
  stats_.num_alloc_retries = 0;
  stats_.num_ooms = 0;
}

void BlockPool::reset_peak_stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  each_stat_array(stats_, [](auto& stat) { stat.reset_peak(); });
}

void BlockPool::reset() {
  std::lock_guard<std::mutex> lock(mutex_);
  release_cached();
  fraction_.reset();
  each_stat_array(stats_, [](auto& stat) {
    stat.reset_peak();
    stat.reset_accumulated();
  });
  stats_.num_alloc_retries = 0;
  stats_.num_ooms = 0;
  stats_.num_device_alloc = 0;
  stats_.num_device_free = 0;
}

void BlockPool::snapshot(std::vector<SegmentView>& into) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Block* head : heads_) {
    SegmentView segment{device_, head->address, 0, !head->small, head->stream, {}};
    for (const Block* block = head; block != nullptr; block = block->next) {
      segment.total_size += block->size;
      segment.blocks.push_back({block->address, block->size, block->requested, block->allocated});
    }
    into.push_back(std::move(segment));
  }
}

} // namespace xpu_emulator
