// Streams, events, and copies that have been issued but not yet carried out.
//
// Kernels run at once, so a stream is only an order. What a stream defers are
// non-blocking copies, when the option `async_copies` asks for it: their
// destination is poisoned until something waits for them.
#pragma once

#include "device_state.h"

#include <c10/core/Stream.h>

#include <chrono>
#include <functional>

namespace xpu_emulator {

struct Event {
  c10::DeviceIndex device = -1;
  c10::StreamId stream = 0;
  uint64_t position = 0; // everything issued up to here is covered
  bool recorded = false;
  std::chrono::steady_clock::time_point time;
};

c10::StreamId current_stream_id(c10::DeviceIndex device) noexcept;
c10::StreamId exchange_stream_id(c10::DeviceIndex device, c10::StreamId stream) noexcept;
c10::StreamId next_pool_stream(c10::DeviceIndex device, bool high_priority) noexcept;

// Who may observe the result of a deferred copy without synchronising: work on
// the same stream sees what reached the device, the host sees nothing.
enum class Visible : uint8_t { kToStream, kToHost };

void defer_copy(
    c10::DeviceIndex device, c10::StreamId stream, Visible visible, std::function<void()> copy);

// Carries out copies to the device that later work on this stream must see.
void order_before_kernel(c10::DeviceIndex device);
// The stream waits for the event; the host does not.
void order_after_event(const Event& event);

// The host waits. Each counts one synchronisation unless `silent`.
void finish_stream(c10::DeviceIndex device, c10::StreamId stream, bool silent = false);
void finish_device(c10::DeviceIndex device);
void finish_event(const Event& event);

// Nothing stays pending anywhere, lost card or not; counts nothing.
void carry_out_all_copies();

// Whether all work is done. An unfinished copy is carried out after the answer
// "no", so that a polling loop ends.
bool query_stream(c10::DeviceIndex device, c10::StreamId stream);
bool query_event(const Event& event);

void record_event(Event& event, c10::DeviceIndex device, c10::StreamId stream);
double elapsed_ms(const Event& start, const Event& end);

} // namespace xpu_emulator
