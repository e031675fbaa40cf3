// CPU tensors over the device's memory, and the way back.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

namespace xpu_emulator {

// A CPU tensor that shares memory with `tensor`, which may live anywhere that
// is host memory. Its storage keeps the original's alive.
at::Tensor cpu_alias(const at::Tensor& tensor);

// The aliases of one call. Inputs that share a storage get aliases that share
// one, so a CPU kernel sees every overlap, and its answers can be recognised:
// an alias returned is the original, a view of one is a view of the original,
// and any other tensor becomes a new one of the device.
class AliasScope {
 public:
  explicit AliasScope(c10::DeviceIndex device) : device_(device) {}

  at::Tensor to_cpu(const at::Tensor& tensor, bool written = false);
  at::Tensor to_device(const at::Tensor& cpu);

  // Replaces 16-bit float aliases by 32-bit copies until `finish`.
  void compute_in_float();
  bool has_half() const;

  // Carries what the kernel did to its outputs back to the originals: rounds
  // 32-bit results, and follows a resize. Call before `to_device`.
  void finish();

  // The alias, or its 32-bit copy, that a kernel should be given for `cpu`.
  at::Tensor operand(const at::Tensor& cpu) const;

 private:
  struct Entry {
    at::Tensor original;
    at::Tensor cpu;
    at::Tensor wide; // 32-bit copy, or undefined
    bool written;
  };
  struct SharedStorage {
    c10::StorageImpl* original;
    c10::Storage cpu;
    void* data;
  };
  SharedStorage& storage_of(const at::Tensor& tensor);
  void follow_resize(Entry& entry);

  const c10::DeviceIndex device_;
  c10::SmallVector<Entry, 6> entries_;
  c10::SmallVector<SharedStorage, 6> storages_;
  c10::SmallVector<std::pair<c10::StorageImpl*, c10::Storage>, 2> adopted_;
  at::ScalarType narrow_ = at::ScalarType::Undefined;
};

} // namespace xpu_emulator
