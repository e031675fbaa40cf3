#include "hooks.h"

#include "device_state.h"
#include "generator.h"
#include "host_memory.h"
#include "streams.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/XPUHooksInterface.h>

namespace xpu_emulator {
namespace {

bool g_is_accelerator = true;

// torch creates the class registered as exactly "XPUHooks", once.
struct XPUHooks final : public at::XPUHooksInterface {
  XPUHooks() = default;
  explicit XPUHooks(at::XPUHooksArgs) {} // before torch 2.9

  void init() const override {}
  bool hasXPU() const override {
    return g_is_accelerator;
  }
  bool isBuilt() const override {
    return g_is_accelerator;
  }
  bool isAvailable() const override {
    return device_count() > 0;
  }
  bool hasPrimaryContext(c10::DeviceIndex index) const override {
    return index >= 0 && index < device_count();
  }
  std::string showConfig() const override {
    return "emulated XPU";
  }
  c10::DeviceIndex deviceCount() const override {
    return device_count();
  }
  c10::DeviceIndex getNumGPUs() const override {
    return device_count();
  }
  c10::DeviceIndex current_device() const override {
    return xpu_emulator::current_device();
  }
  c10::DeviceIndex getCurrentDevice() const override {
    return xpu_emulator::current_device();
  }
  void setCurrentDevice(c10::DeviceIndex index) const override {
    check_device_index(index);
    exchange_device(index);
  }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return exchange_device(index);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return exchange_device(index);
  }
  int32_t getGlobalIdxFromDevice(const c10::Device& device) const override {
    check_device_index(device.index());
    return device.index();
  }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    index = index == -1 ? xpu_emulator::current_device() : index;
    check_device_index(index);
    return default_generator(index);
  }
  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return make_generator(index == -1 ? xpu_emulator::current_device() : index);
  }
  void deviceSynchronize(c10::DeviceIndex index) const override {
    finish_device(index);
  }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    return pinned_allocator();
  }
  bool isPinnedPtr(const void* data) const override {
    return is_pinned(data);
  }
};

} // namespace

// The macro uses these names unqualified.
using at::RegistererXPUHooksRegistry;
using at::XPUHooksRegistry;
REGISTER_XPU_HOOKS(XPUHooks)

void register_hooks(bool beside_cuda) {
  TORCH_CHECK(
      dynamic_cast<const XPUHooks*>(&at::detail::getXPUHooks()) != nullptr,
      "The emulated XPU was installed too late: torch has already decided that this process has "
      "no XPU (something used torch.accelerator, autograd or pinned memory). Call "
      "xpu_emulator.install() right after the first import of torch, or start the program with "
      "python -m xpu_emulator.");
  g_is_accelerator = !beside_cuda;
  if (beside_cuda) {
    return;
  }
  // A torch built for CUDA claims CUDA as the accelerator even without a GPU,
  // from a singleton that was created while torch was imported. The singleton
  // has no state, so it can become the object that a torch without CUDA has.
  static_assert(sizeof(at::CUDAHooksInterface) == sizeof(void*), "CUDA hooks are not stateless");
  auto& cuda = const_cast<at::CUDAHooksInterface&>(at::detail::getCUDAHooks());
  new (&cuda) at::CUDAHooksInterface();
}

} // namespace xpu_emulator
