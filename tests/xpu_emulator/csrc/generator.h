// The device's random generator.
//
// A card draws other numbers than the CPU from the same seed. Here they come
// from the CPU's Mersenne twister with a scrambled seed: not the card's Philox
// values, but as different from the CPU's, and equal on all cards.
#pragma once

#include <ATen/core/Generator.h>

namespace xpu_emulator {

const at::Generator& default_generator(c10::DeviceIndex device);
at::Generator make_generator(c10::DeviceIndex device);

// The CPU generator from which a kernel draws on behalf of `generator`.
// Raises torch's error when `generator` is not one of the device's.
at::Generator cpu_side(const at::Generator& generator);

} // namespace xpu_emulator
