// The fused LSTM and GRU cells: torch calls them on every GPU, the CPU has none.
// Written with the operators of the card itself.
#include <ATen/ATen.h>
#include <torch/library.h>

namespace xpu_emulator {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

at::Tensor with_bias(const at::Tensor& gates, const OptionalTensor& bias) {
  return bias && bias->defined() ? gates + *bias : gates;
}

at::Tensor sigmoid_slope(const at::Tensor& y) {
  return y * (1 - y);
}

at::Tensor tanh_slope(const at::Tensor& y) {
  return 1 - y * y;
}

at::Tensor or_zeros(const OptionalTensor& grad, const at::Tensor& like) {
  return grad && grad->defined() ? *grad : at::zeros_like(like);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_cell(
    const at::Tensor& input_gates, const at::Tensor& hidden_gates, const at::Tensor& cx,
    const OptionalTensor& input_bias, const OptionalTensor& hidden_bias) {
  const auto gates =
      (with_bias(input_gates, input_bias) + with_bias(hidden_gates, hidden_bias)).chunk(4, 1);
  const auto input = gates[0].sigmoid(), forget = gates[1].sigmoid();
  const auto cell = gates[2].tanh(), output = gates[3].sigmoid();
  const auto cy = forget * cx + input * cell;
  return {output * cy.tanh(), cy, at::cat({input, forget, cell, output}, 1)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_cell_backward(
    const OptionalTensor& grad_hy, const OptionalTensor& grad_cy, const at::Tensor& cx,
    const at::Tensor& cy, const at::Tensor& workspace, bool has_bias) {
  const auto kept = workspace.chunk(4, 1);
  const auto &input = kept[0], &forget = kept[1], &cell = kept[2], &output = kept[3];
  const auto tanh_cy = cy.tanh();
  const auto grad_h = or_zeros(grad_hy, cy);
  const auto grad_c = grad_h * output * tanh_slope(tanh_cy) + or_zeros(grad_cy, cy);
  const auto grad_gates = at::cat(
      {grad_c * cell * sigmoid_slope(input), grad_c * cx * sigmoid_slope(forget),
       grad_c * input * tanh_slope(cell), grad_h * tanh_cy * sigmoid_slope(output)},
      1);
  return {grad_gates, grad_c * forget, has_bias ? grad_gates.sum(0) : at::Tensor()};
}

std::tuple<at::Tensor, at::Tensor> gru_cell(
    const at::Tensor& input_gates, const at::Tensor& hidden_gates, const at::Tensor& hx,
    const OptionalTensor& input_bias, const OptionalTensor& hidden_bias) {
  const auto from_input = with_bias(input_gates, input_bias).chunk(3, 1);
  const auto from_hidden = with_bias(hidden_gates, hidden_bias).chunk(3, 1);
  const auto reset = (from_input[0] + from_hidden[0]).sigmoid();
  const auto update = (from_input[1] + from_hidden[1]).sigmoid();
  const auto fresh = (from_input[2] + reset * from_hidden[2]).tanh();
  return {
      fresh + update * (hx - fresh), at::cat({reset, update, fresh, hx, from_hidden[2]}, 1)};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> gru_cell_backward(
    const at::Tensor& grad_hy, const at::Tensor& workspace, bool has_bias) {
  const auto kept = workspace.chunk(5, 1);
  const auto &reset = kept[0], &update = kept[1], &fresh = kept[2], &hx = kept[3];
  const auto& hidden_fresh = kept[4];
  const auto grad_fresh = grad_hy * (1 - update) * tanh_slope(fresh);
  const auto grad_update = grad_hy * (hx - fresh) * sigmoid_slope(update);
  const auto grad_reset = grad_fresh * hidden_fresh * sigmoid_slope(reset);
  const auto grad_input = at::cat({grad_reset, grad_update, grad_fresh}, 1);
  const auto grad_hidden = at::cat({grad_reset, grad_update, grad_fresh * reset}, 1);
  return {
      grad_input, grad_hidden, grad_hy * update, has_bias ? grad_input.sum(0) : at::Tensor(),
      has_bias ? grad_hidden.sum(0) : at::Tensor()};
}

TORCH_LIBRARY_IMPL(aten, XPU, library) {
  library.impl("_thnn_fused_lstm_cell", TORCH_FN(lstm_cell));
  library.impl("_thnn_fused_lstm_cell_backward_impl", TORCH_FN(lstm_cell_backward));
  library.impl("_thnn_fused_gru_cell", TORCH_FN(gru_cell));
  library.impl("_thnn_fused_gru_cell_backward", TORCH_FN(gru_cell_backward));
}

} // namespace
} // namespace xpu_emulator
