// Pinned host memory: ordinary memory that remembers that it is pinned.
#pragma once

#include <c10/core/Allocator.h>

namespace xpu_emulator {

c10::Allocator* pinned_allocator();
bool is_pinned(const void* pointer);
void register_host_allocator();

} // namespace xpu_emulator
