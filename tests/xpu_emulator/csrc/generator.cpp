#include "generator.h"

#include "device_state.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GeneratorImpl.h>
#include <c10/util/Exception.h>

#include <random>

namespace xpu_emulator {
namespace {

// Any odd 64-bit constant does; this one is the golden ratio.
constexpr uint64_t kScramble = 0x9E3779B97F4A7C15ULL;

struct GeneratorImpl final : public c10::GeneratorImpl {
  explicit GeneratorImpl(c10::DeviceIndex device)
      : c10::GeneratorImpl(
            c10::Device(c10::kXPU, device), c10::DispatchKeySet(c10::DispatchKey::XPU)),
        cpu(at::detail::createCPUGenerator()) {
    set_current_seed(c10::default_rng_seed_val);
  }

  void set_current_seed(uint64_t seed) override {
    seed_ = seed;
    cpu.set_current_seed(options().rng_like_cpu ? seed : seed ^ kScramble);
  }
  uint64_t current_seed() const override {
    return seed_;
  }
  uint64_t seed() override {
    std::random_device source;
    const uint64_t fresh = (uint64_t{source()} << 32 | source()) >> 11; // 53 bits, as on the CPU
    set_current_seed(fresh);
    return fresh;
  }
  // Philox offsets have no meaning for a Mersenne twister.
  void set_offset(uint64_t) override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "The emulated XPU's generator has no offset to set.");
  }
  uint64_t get_offset() const override {
    TORCH_CHECK_NOT_IMPLEMENTED(false, "The emulated XPU's generator has no offset.");
  }
  void set_state(const c10::TensorImpl& state) override {
    cpu.unsafeGetGeneratorImpl()->set_state(state);
    seed_ = cpu.current_seed() ^ (options().rng_like_cpu ? 0 : kScramble);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return cpu.unsafeGetGeneratorImpl()->get_state();
  }
  GeneratorImpl* clone_impl() const override {
    auto* copy = new GeneratorImpl(device_.index());
    copy->set_state(*get_state());
    return copy;
  }

  at::Generator cpu;

 private:
  uint64_t seed_ = 0;
};

} // namespace

at::Generator make_generator(c10::DeviceIndex device) {
  check_device_index(device);
  return at::make_generator<GeneratorImpl>(device);
}

const at::Generator& default_generator(c10::DeviceIndex device) {
  // Leaked: Python keeps wrappers of these until the very end.
  static auto* generators = new std::array<at::Generator, kMaxDevices>{
      at::make_generator<GeneratorImpl>(0), at::make_generator<GeneratorImpl>(1),
      at::make_generator<GeneratorImpl>(2), at::make_generator<GeneratorImpl>(3)};
  return (*generators)[static_cast<size_t>(device)];
}

at::Generator cpu_side(const at::Generator& generator) {
  TORCH_CHECK(
      generator.device().type() == c10::kXPU, "Expected a 'xpu' device type for generator but found '",
      generator.device().type(), "'");
  return static_cast<GeneratorImpl*>(generator.unsafeGetGeneratorImpl())->cpu;
}

} // namespace xpu_emulator
