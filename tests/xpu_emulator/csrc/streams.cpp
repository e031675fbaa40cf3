#include "streams.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace xpu_emulator {
namespace {

constexpr int kStreamsPerPool = 32; // as in c10/xpu/XPUStream.cpp
constexpr uint64_t kEverything = std::numeric_limits<uint64_t>::max();

struct PendingCopy {
  c10::DeviceIndex device;
  c10::StreamId stream;
  uint64_t position;
  Visible visible;
  std::function<void()> run;
};

std::mutex g_mutex;
std::vector<PendingCopy> g_pending; // in the order of issue
std::atomic<size_t> g_pending_count{0}; // lets a kernel skip the lock
std::atomic<uint64_t> g_position{0};
std::array<std::atomic<int>, kMaxDevices> g_next_stream{};
thread_local std::array<c10::StreamId, kMaxDevices> t_streams{};

// Runs and removes the pending copies that `selects`; says whether there were any.
template <typename Selects>
bool carry_out(const Selects& selects) {
  if (g_pending_count.load(std::memory_order_acquire) == 0) {
    return false;
  }
  std::vector<PendingCopy> chosen;
  {
    std::lock_guard<std::mutex> lock(g_mutex);
    auto rest = std::stable_partition(
        g_pending.begin(), g_pending.end(), [&](const auto& copy) { return !selects(copy); });
    std::move(rest, g_pending.end(), std::back_inserter(chosen));
    g_pending.erase(rest, g_pending.end());
    g_pending_count.store(g_pending.size(), std::memory_order_release);
  }
  // Outside the lock: a copy frees tensors and may issue work of its own.
  for (auto& copy : chosen) {
    copy.run();
  }
  return !chosen.empty();
}

bool carry_out_stream(c10::DeviceIndex device, c10::StreamId stream, uint64_t until) {
  return carry_out([=](const PendingCopy& copy) {
    return copy.device == device && copy.stream == stream && copy.position <= until;
  });
}

void count_synchronize(c10::DeviceIndex device) {
  device_state(device).counters.synchronizes.fetch_add(1, std::memory_order_relaxed);
}

} // namespace

c10::StreamId current_stream_id(c10::DeviceIndex device) noexcept {
  return t_streams[static_cast<size_t>(device)];
}

c10::StreamId exchange_stream_id(c10::DeviceIndex device, c10::StreamId stream) noexcept {
  return std::exchange(t_streams[static_cast<size_t>(device)], stream);
}

c10::StreamId next_pool_stream(c10::DeviceIndex device, bool high_priority) noexcept {
  const int turn = g_next_stream[static_cast<size_t>(device)].fetch_add(1);
  return 1 + turn % kStreamsPerPool + (high_priority ? kStreamsPerPool : 0);
}

void defer_copy(
    c10::DeviceIndex device, c10::StreamId stream, Visible visible, std::function<void()> copy) {
  std::lock_guard<std::mutex> lock(g_mutex);
  g_pending.push_back({device, stream, ++g_position, visible, std::move(copy)});
  g_pending_count.store(g_pending.size(), std::memory_order_release);
}

void order_before_kernel(c10::DeviceIndex device) {
  const auto stream = current_stream_id(device);
  carry_out([=](const PendingCopy& copy) {
    return copy.device == device && copy.stream == stream && copy.visible == Visible::kToStream;
  });
}

void order_after_event(const Event& event) {
  if (!event.recorded) {
    return;
  }
  carry_out([&](const PendingCopy& copy) {
    return copy.device == event.device && copy.stream == event.stream &&
        copy.position <= event.position && copy.visible == Visible::kToStream;
  });
}

void finish_stream(c10::DeviceIndex device, c10::StreamId stream, bool silent) {
  check_alive(device);
  if (!silent) {
    count_synchronize(device);
  }
  carry_out_stream(device, stream, kEverything);
}

void finish_device(c10::DeviceIndex device) {
  check_device_index(device);
  check_alive(device);
  count_synchronize(device);
  carry_out([=](const PendingCopy& copy) { return copy.device == device; });
}

void carry_out_all_copies() {
  carry_out([](const PendingCopy&) { return true; });
}

void finish_event(const Event& event) {
  if (!event.recorded) {
    return;
  }
  check_alive(event.device);
  count_synchronize(event.device);
  carry_out_stream(event.device, event.stream, event.position);
}

bool query_stream(c10::DeviceIndex device, c10::StreamId stream) {
  check_alive(device);
  return !carry_out_stream(device, stream, kEverything);
}

bool query_event(const Event& event) {
  if (!event.recorded) {
    return true;
  }
  check_alive(event.device);
  return !carry_out_stream(event.device, event.stream, event.position);
}

void record_event(Event& event, c10::DeviceIndex device, c10::StreamId stream) {
  check_alive(device);
  TORCH_CHECK(
      event.device == -1 || event.device == device, "Event device ",
      static_cast<int>(event.device), " does not match recording stream's device ",
      static_cast<int>(device), ".");
  event.device = device;
  event.stream = stream;
  event.position = g_position.load();
  event.recorded = true;
  event.time = std::chrono::steady_clock::now();
}

double elapsed_ms(const Event& start, const Event& end) {
  TORCH_CHECK(
      start.recorded && end.recorded,
      "Both events must be recorded before calculating elapsed time.");
  return std::chrono::duration<double, std::milli>(end.time - start.time).count();
}

} // namespace xpu_emulator
