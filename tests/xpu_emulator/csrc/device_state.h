// What one emulated card is told to be, and what happened on it.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

namespace xpu_emulator {

// The autograd engine starts one thread per device at the first backward and
// never again, so the number of devices that torch may ever see is fixed here.
inline constexpr c10::DeviceIndex kMaxDevices = 4;

// Fills memory that nobody has written yet: a NaN in every floating type.
inline constexpr int kPoisonByte = 0xFF;

enum class CopyKind : uint8_t { kHostToDevice, kDeviceToHost, kWithinDevice, kPeer };
inline constexpr size_t kCopyKinds = 4;

struct CopyCounter {
  std::atomic<uint64_t> count{0};
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> non_blocking{0};
};

struct Counters {
  std::atomic<uint64_t> kernels{0};
  std::atomic<uint64_t> items{0};
  std::atomic<uint64_t> synchronizes{0};
  std::atomic<uint64_t> allocations{0};
  std::atomic<uint64_t> ooms{0};
  std::array<CopyCounter, kCopyKinds> copies;

  void reset();
};

// How an exhausted card reports itself: torch's own exception, or one of the
// plain RuntimeErrors that escape from Level Zero.
enum class OomStyle : uint8_t { kTorch, kOutOfDeviceMemory, kOutOfResources };

struct DeviceConfig {
  std::string name;
  size_t total_memory = 0;
  size_t external_memory = 0; // held by other processes
  size_t max_allocation = 0; // 0: no limit but the total
  bool has_fp64 = true;
  bool fp64_storage = false; // without fp64: may float64 be stored and copied?
  OomStyle oom_style = OomStyle::kTorch;
  bool mem_get_info_raises = false;
  std::optional<size_t> mem_get_info_free; // a lie, in bytes
};

struct DeviceState {
  DeviceConfig config;
  Counters counters;
  std::atomic<bool> lost{false};
  std::atomic<int64_t> fail_allocation_in{0}; // 1: the next one; 0: never
  std::atomic<int64_t> fail_kernel_in{0};
  std::atomic<int64_t> fail_copy_in{0};
  std::string fail_text; // of a kernel or a copy; guarded by config_mutex
};

// Process-wide switches; relaxed atomics because a test sets them between calls.
struct Options {
  std::atomic<bool> async_copies{false};
  std::atomic<bool> poison{false};
  std::atomic<bool> fused_attention{true};
  std::atomic<bool> rng_like_cpu{false};
};

DeviceState& device_state(c10::DeviceIndex index);
Options& options();
std::mutex& config_mutex();

c10::DeviceIndex device_count() noexcept;
void set_device_count(c10::DeviceIndex count);
c10::DeviceIndex current_device() noexcept;
c10::DeviceIndex exchange_device(c10::DeviceIndex index) noexcept;

// Raises torch XPU's error when `index` is not one of the visible devices.
void check_device_index(c10::DeviceIndex index);

// Raises UR_RESULT_ERROR_DEVICE_LOST once the card is lost: every entry point
// that would reach the driver calls this first.
void check_alive(c10::DeviceIndex index);

[[noreturn]] void raise_level_zero(int code, const char* name);
[[noreturn]] void raise_missing_fp64();

class CurrentDevice {
 public:
  explicit CurrentDevice(c10::DeviceIndex index) : previous_(exchange_device(index)) {}
  ~CurrentDevice() {
    exchange_device(previous_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  c10::DeviceIndex previous_;
};

} // namespace xpu_emulator
