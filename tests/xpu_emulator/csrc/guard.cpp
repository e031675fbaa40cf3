// torch's device guard: current device, streams and events.
#include "streams.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace xpu_emulator {
namespace {

struct GuardImpl final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return c10::kXPU;
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    return {c10::kXPU, exchange_device(device.index())};
  }
  c10::Device getDevice() const override {
    return {c10::kXPU, current_device()};
  }
  void setDevice(c10::Device device) const override {
    exchange_device(device.index());
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    exchange_device(device.index());
  }
  // The capacity, not the visible count: see kMaxDevices.
  c10::DeviceIndex deviceCount() const noexcept override {
    return kMaxDevices;
  }

  c10::Stream getStream(c10::Device device) const override {
    return make_stream(device, current_stream_id(index_of(device)));
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return make_stream(device, 0);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool high_priority) const override {
    return make_stream(device, next_pool_stream(index_of(device), high_priority));
  }
  c10::Stream getNewStream(c10::Device device, int priority) const override {
    return make_stream(device, next_pool_stream(index_of(device), priority < 0));
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return make_stream(stream.device(), exchange_stream_id(stream.device_index(), stream.id()));
  }
  bool queryStream(const c10::Stream& stream) const override {
    return query_stream(stream.device_index(), stream.id());
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    finish_stream(stream.device_index(), stream.id());
  }
  void synchronizeDevice(const c10::DeviceIndex device) const override {
    finish_device(device);
  }

  void record(
      void** event, const c10::Stream& stream, const c10::DeviceIndex device_index,
      const c10::EventFlag) const override {
    TORCH_CHECK(
        device_index == -1 || device_index == stream.device_index(), "Event device index ",
        static_cast<int>(device_index), " does not match recording stream's device index ",
        static_cast<int>(stream.device_index()), ".");
    if (*event == nullptr) {
      *event = new Event;
    }
    record_event(*static_cast<Event*>(*event), stream.device_index(), stream.id());
  }
  void block(void* event, const c10::Stream& stream) const override {
    check_alive(stream.device_index());
    if (event != nullptr) {
      order_after_event(*static_cast<Event*>(event));
    }
  }
  bool queryEvent(void* event) const override {
    return event == nullptr || query_event(*static_cast<Event*>(event));
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) {
      finish_event(*static_cast<Event*>(event));
    }
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
  double elapsedTime(void* start, void* end, const c10::DeviceIndex) const override {
    TORCH_CHECK(start && end, "Both events must be recorded before calculating elapsed time.");
    return elapsed_ms(*static_cast<Event*>(start), *static_cast<Event*>(end));
  }

  // Virtual in newer versions of torch, hence neither `override` nor missing.
  void* getStreamNativeHandle(const c10::Stream stream) const {
    // No SYCL queue exists; a distinct number per stream keeps identity tests true.
    return reinterpret_cast<void*>(
        (static_cast<uintptr_t>(stream.device_index()) + 1) << 32 |
        static_cast<uintptr_t>(stream.id() + 1));
  }

 private:
  static c10::DeviceIndex index_of(c10::Device device) {
    return device.has_index() ? device.index() : current_device();
  }
  static c10::Stream make_stream(c10::Device device, c10::StreamId id) {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kXPU, index_of(device)), id);
  }
};

C10_REGISTER_GUARD_IMPL(XPU, GuardImpl)

} // namespace
} // namespace xpu_emulator
